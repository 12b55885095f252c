"""The command line: settings from preset, file and options, help, and exit codes."""
