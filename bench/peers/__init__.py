"""Other projects, each in an environment of its own, to be measured beside this one."""
