"""Runs the tests with real components and ends with `N passed, N failed`.

A test that is skipped counts as failed: a component that is missing is a failure, never a skip.
Arguments choose tests (`run.py test_cli test_transport.Http.test_utf_16`); without any, all run.
"""

import pathlib
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


class Result(unittest.TextTestResult):
    """Counts what passed and says how long each test took."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.passed = 0

    def startTest(self, test):
        self.begun = time.monotonic()
        super().startTest(test)

    def addSuccess(self, test):
        self.passed += 1
        super().addSuccess(test)
        self.stream.writeln(f"    {time.monotonic() - self.begun:.1f} s")


def main(names):
    loader = unittest.TestLoader()
    suite = unittest.TestSuite()
    for name in names or sorted(path.stem for path in HERE.glob("test_*.py")):
        suite.addTests(loader.loadTestsFromName(name))
    if loader.errors:
        print(*loader.errors, sep="\n")
    runner = unittest.TextTestRunner(stream=sys.stdout, resultclass=Result, verbosity=2)
    result = runner.run(suite)
    problems = [*result.failures, *result.errors, *result.skipped]
    failed = len(problems) + len(result.unexpectedSuccesses)
    if failed:
        print("failed:", *[str(test) for test, _ in problems], sep="\n  ")
    print(f"{result.passed} passed, {failed} failed")
    return 1 if failed or not result.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
