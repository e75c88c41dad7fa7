"""What the end-to-end suites share: running programs, talking to the proxy, and running tests.

A suite is a program `tests/<name>/run.py`. It registers tests with `harness.suite.test` and ends with
`sys.exit(harness.suite.main())`. Rules that all of them keep:

- the programs under test and the foreign peers are real processes, started and ended by their own id;
- every port is chosen by the system (port 0) and read from what the program prints;
- nothing waits for a fixed time: `harness.poll.eventually` waits for a condition, with a deadline;
- all traffic stays on 127.0.0.0/8.
"""
