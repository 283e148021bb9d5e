"""Shorter runs of `kill_rounds_qemu.py`."""

import random
import unittest

import kill_rounds_qemu


class Kill(unittest.TestCase):
    def rounds(self, number, victim):
        seed = random.SystemRandom().randrange(1 << 31)
        try:
            print("", kill_rounds_qemu.run(number, seed, victim), sep="\n")
        except kill_rounds_qemu.Broken as problem:
            self.fail(str(problem))

    def test_15_rounds_of_kill_9_of_the_server(self):
        self.rounds(15, "server")

    def test_5_rounds_of_kill_9_of_qemu(self):
        self.rounds(5, "qemu")


if __name__ == "__main__":
    unittest.main()
