"""Running unattended: inbox, schedule, daemon, status and drift."""
