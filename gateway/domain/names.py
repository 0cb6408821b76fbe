"""Names of companies and devices: how they are compared."""

import unicodedata

NAME_CHARS_MAX = 200


def name_key(name: str) -> str:
    """The form in which names are unique and searched: without accents, case or extra space."""
    plain = unicodedata.normalize("NFKD", name)
    bare = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(bare.casefold().split())


def clean_name(name: str) -> str:
    """The name as kept. Raises ValueError when it is empty, too long or not printable."""
    name = " ".join(name.split())
    if not name or len(name) > NAME_CHARS_MAX or not name.isprintable():
        raise ValueError(f"a name has 1 to {NAME_CHARS_MAX} printable characters")
    return name
