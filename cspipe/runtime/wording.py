"""Sizes and times in words, and text that is safe to print."""


def printable(text: str) -> str:
    """Escape, as \\x1b for example, what a terminal would obey or not show: text may contain names from anywhere."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def readable_bytes(count: int) -> str:
    """A number of bytes in words, such as "3.4 MiB"."""
    size, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def readable_seconds(seconds: float) -> str:
    """A duration in words, such as "3.1 s", "12 min" or "5 h 20 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
