"""The modules that a new hub starts with, trained on public data; `docs/modules.md` lists them."""
