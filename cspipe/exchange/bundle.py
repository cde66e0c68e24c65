"""Bundle the code of one net into one file that needs only torch and diffusers."""

from __future__ import annotations

import ast

from cspipe.runtime.registry import ROOT

PARTS = ("cspipe.diffusion.", "cspipe.nets.", "cspipe.backbones.", "cspipe.compensators.")
SETTINGS = "cspipe.nets.backbone"
WRAPPER = "cspipe.exchange.templates.net"
HEAD = '"""A net exported by cspipe, with all that it is made of."""\n\nfrom __future__ import annotations\n'


def bundle(module: str) -> str:
    """Return the source of a file with the net of a module, such as cspipe.backbones.dit, and its wrapper `Net`."""
    imports: dict[str, None] = {}
    bodies: dict[str, str] = {}
    for each in (module, WRAPPER):
        _collect(each, imports, bodies)
    return "\n\n\n".join([HEAD + "\n".join(imports), *bodies.values()]) + "\n"


def _collect(module: str, imports: dict[str, None], bodies: dict[str, str]) -> None:
    """Add a module's external imports to `imports` and, after the modules of PARTS it imports, its code to `bodies`."""
    kept, file = [], ROOT.joinpath(*module.split(".")).with_suffix(".py")
    for node in ast.parse(file.read_text()).body[1:]:
        source = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        if source.startswith(("cspipe.", "pydantic", "__future__")):  # PARTS, and what only `Settings` uses
            if source.startswith(PARTS) and source != SETTINGS and source not in bodies:
                _collect(source, imports, bodies)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            imports[ast.unparse(node)] = None
        elif not (isinstance(node, ast.ClassDef) and node.name == "Settings"):
            kept.append(ast.unparse(node))
    bodies[module] = "\n\n\n".join(kept)
