"""`python -m control_center` is the command `afu9`."""

from control_center.cli import main

main()
