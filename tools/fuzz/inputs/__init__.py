"""Random bad inputs for the command line: each must end in success, a counted exclusion, or one sentence."""
