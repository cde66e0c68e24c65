"""Sizes and times in words, and text that only says something."""


def printable(text: str) -> str:
    """One line with what a terminal would obey, or not show, as escapes such as \\x1b: names come from anywhere."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def readable_bytes(count: int) -> str:
    """Such as "3.4 MiB"."""
    size, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def readable_seconds(seconds: float) -> str:
    """Such as "3.1 s", "12 min" or "5 h 20 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
