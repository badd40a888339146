"""Every setting once: its bound, default, unit and help, read by plans, the command line and callers alike."""
