"""What a refusal owes its reader."""


def require_sentence(refusal):
    """Make sure that a refusal says something, and that it can be printed."""
    text = str(refusal)
    assert text
    text.encode("utf-8", "surrogateescape")
