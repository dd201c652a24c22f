"""Text of others on a terminal or a page: shown, never obeyed."""

import unicodedata


def visible(text: str) -> str:
    """The text with control characters, and marks that turn the direction of writing, as escapes: `\\x1b`.

    Line breaks and tabs stay.
    """
    return "".join(letter if _plain(letter) else f"\\x{ord(letter):02x}" for letter in text)


def _plain(letter: str) -> bool:
    return letter in "\t\n" or unicodedata.category(letter) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}
