"""The ``moma-cl`` command: parse, call one function of ``moma_cl``, render."""
