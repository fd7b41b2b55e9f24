"""AFU-9 beside other engines, in one run on the same servers: `python -m benchmarks.speed --help`."""
