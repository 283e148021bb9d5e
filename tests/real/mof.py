"""What classes declare, read from MOF files by a reader that is not the server's.

It reads what the comparison needs: names, types and arrays of properties, methods and parameters, and superclasses.
"""

import functools
import pathlib
import re

#: Comments and texts; what is in them looks like MOF and is none.
OPAQUE = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
CLASS = re.compile(r"\bclass\s+(\w+)\s*(?::\s*(\w+))?\s*\{")
MEMBER = re.compile(r"^(\w+)\s+(?:(REF)\s+)?(\w+)\s*(\[\s*\d*\s*\])?$", re.IGNORECASE)
METHOD = re.compile(r"^(\w+)\s+(\w+)\s*\((.*)\)$", re.DOTALL)


def bare(text):
    """Without comments, texts and qualifiers."""
    text = OPAQUE.sub(lambda match: '""' if match[0].startswith('"') else " ", text)
    kept, depth = [], 0
    for at, letter in enumerate(text):
        # The brackets of an array stand directly behind a name.
        if letter == "[" and depth == 0 and text[at - 1].isalnum():
            depth = -1
        elif letter == "[" and depth >= 0:
            depth += 1
        if depth <= 0:
            kept.append(letter)
        if letter == "]":
            depth = 0 if depth < 0 else depth - 1
    return "".join(kept)


def member(text):
    """Name and type of a property or parameter: `uint16[]`, `ref CIM_Job`."""
    kind, ref, name, array = MEMBER.match(text.split("=")[0].strip()).groups()
    kind = f"ref {kind}" if ref else kind.lower()
    return name, kind + ("[]" if array else "")


def read(path):
    """Name, superclass, properties and methods of the class in a file."""
    text = bare(path.read_text())
    head = CLASS.search(text)
    properties, methods = {}, {}
    body = text[head.end() : text.rindex("}")]
    for declaration in filter(None, (part.strip() for part in re.split(r";(?![^({]*[)}])", body))):
        method = METHOD.match(declaration)
        if method:
            parameters = [part.strip() for part in method[3].split(",") if part.strip()]
            methods[method[2]] = (method[1].lower(), dict(member(part) for part in parameters))
        else:
            name, kind = member(declaration)
            properties[name] = kind
    return head[1], head[2], properties, methods


@functools.cache
def namespaces():
    """The classes of each namespace, with what they inherit: superclass, properties, methods."""
    root, found = pathlib.Path(__file__).parents[2] / "schemas", {}
    for file in sorted(root.rglob("namespace.mof")):
        classes = None
        for word, value in re.findall(r'#pragma (namespace|include) \("([^"]+)"\)', file.read_text()):
            if word == "namespace":
                classes = found.setdefault(value, {})
            elif not value.endswith("qualifiers.mof"):
                name, base, properties, methods = read(file.parent / value)
                classes[name] = (base, properties, methods)
    return {namespace: {name: whole(classes, name) for name in classes} for namespace, classes in found.items()}


def whole(classes, name):
    base, properties, methods = classes[name]
    if base:
        _, inherited, inherited_methods = whole(classes, base)
        properties, methods = {**inherited, **properties}, {**inherited_methods, **methods}
    return base, properties, methods
