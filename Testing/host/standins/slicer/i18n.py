"""Stand-in for `slicer.i18n`: no translation is loaded, so every text stays as written."""


def tr(text: str) -> str:
    return translate("", text)


def translate(context: str, text: str) -> str:
    if not isinstance(context, str) or not isinstance(text, str):
        raise TypeError(f"translate takes two texts, not {context!r}, {text!r}")
    return text


def getContext(sourceFile: str) -> str:
    """A file's name without ending."""
    return sourceFile.replace("\\", "/").rpartition("/")[2].partition(".")[0]
