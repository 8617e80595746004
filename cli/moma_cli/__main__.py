"""``python -m moma_cli``, for where the ``moma-cl`` script is not on the path."""

from moma_cli.app import main

raise SystemExit(main())
