"""An operator's edits of settings, for the pages and the command line alike: typed, checked, put together."""
