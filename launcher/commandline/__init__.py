"""What was typed, as values: options, their spellings, the parser, the help."""
