"""Programs to read and run; a package, since storchastic installs one of this name that would be found first."""
