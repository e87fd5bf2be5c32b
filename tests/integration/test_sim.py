# SPDX-License-Identifier: Apache-2.0
"""artel sim: what it prints and how it ends. What is simulated is tested by tests/unit/sim."""

from harness import *

NODES = "8"


class SimTest(unittest.TestCase):
    def sim(self, *arguments, status=0):
        result = run("sim", *arguments)
        self.assertEqual(result.status, status, result)
        return result

    def lines(self, *arguments, status=0):
        return [json.loads(line) for line in self.sim("--json", *arguments, status=status).out.splitlines()]

    def test_scenarios_are_listed(self):
        names = [line.split()[0] for line in self.sim("--list").out.decode().splitlines()]
        for name in ("cold-start", "idle", "crash", "partition", "hostile", "chaos"):
            self.assertIn(name, names)

    def test_a_run_tells_figures_and_verdict(self):
        text = self.sim("crash", "--nodes", NODES).out.decode()
        self.assertIn("crash, artel, 8 nodes, seed 1", text)
        self.assertIn("noticed-by-all-p50", text)
        self.assertRegex(text, r"trace [0-9a-f]{16}: holds\n$")

    def test_the_same_seed_is_the_same_run(self):
        once, again, other = (
            self.lines("crash", "--nodes", NODES, "--seed", seed)[0] for seed in ("7", "7", "8")
        )
        self.assertEqual(once["trace"], again["trace"])
        self.assertEqual(once["figures"], again["figures"])
        self.assertNotEqual(once["trace"], other["trace"])
        self.assertTrue(once["holds"])
        self.assertEqual(once["seed"], 7)

    def test_processes_change_nothing(self):
        arguments = ("join", "--nodes", NODES, "--seeds", "5", "--seed", "3")
        alone = {line["seed"]: line["trace"] for line in self.lines(*arguments)}
        together = {line["seed"]: line["trace"] for line in self.lines(*arguments, "--jobs", "3")}
        self.assertEqual(sorted(alone), [3, 4, 5, 6, 7])
        self.assertEqual(alone, together)

    def test_a_delivery_is_as_large_and_fast_as_told(self):
        arguments = ("deliver", "--nodes", NODES, "--rate", "10MB/s", "--delay", "0.5")
        line = self.lines(*arguments, "--size", "20MB", "--kill", "30")[0]
        self.assertTrue(line["holds"], line)
        self.assertAlmostEqual(line["figures"]["ideal"]["value"], 2.0)
        self.assertIn("time-disturbed", line["figures"])
        fewer = self.lines(*arguments, "--size", "1M", "--receivers", "1", "--holders", "3")[0]
        self.assertAlmostEqual(fewer["figures"]["ideal"]["value"], 0.1048576, places=5)
        for wrong in (("--size", "many"), ("--size", "0"), ("--rate", "5X"), ("--delay", "-1"),
                      ("--kill", "100"), ("--size", "1T", "--block", "1K")):
            self.sim("deliver", *wrong, status=2)

    def test_many_seeds_are_summed_up(self):
        text = self.sim("cold-start", "--nodes", NODES, "--seeds", "4").out.decode()
        self.assertIn("4 seeds from 1", text)
        self.assertIn("0 of 4 seeds failed: holds", text)

    def test_what_does_not_hold_is_told_and_is_status_1(self):
        text = self.sim("clone", "--nodes", NODES, "--protocol", "swim", status=1).out.decode()
        self.assertIn("FAILED clone-stopped", text)
        self.assertIn("DOES NOT HOLD", text)
        text = self.sim("clone", "--nodes", NODES, "--protocol", "swim", "--seeds", "2",
                        status=1).out.decode()
        self.assertIn("FAILED seed 1: clone-stopped", text)
        self.assertIn("2 of 2 seeds failed", text)

    def test_the_baseline_beside_artel_does_not_count(self):
        lines = self.lines("clone", "--nodes", NODES, "--protocol", "both")
        self.assertEqual([(line["protocol"], line["holds"]) for line in lines],
                         [("artel", True), ("swim", False)])

    def test_the_time_series_is_a_table(self):
        with temp_dir() as directory:
            path = directory / "series.csv"
            self.sim("mass-crash", "--nodes", NODES, "--csv", path)
            head, *rows = path.read_text(encoding="utf-8").splitlines()
        columns = head.split(",")
        self.assertEqual(columns[:4], ["protocol", "seed", "time_s", "running"])
        self.assertGreater(len(rows), 60)
        for second, row in enumerate(rows):
            self.assertEqual(len(row.split(",")), len(columns))
            self.assertEqual(row.split(",")[2], str(second))

    def test_loss_of_the_whole_run(self):
        figures = self.lines("cold-start", "--nodes", NODES, "--loss", "5%")[0]
        again = self.lines("cold-start", "--nodes", NODES, "--loss", "0.05")[0]
        self.assertEqual(figures["trace"], again["trace"])

    def test_calls_that_make_no_sense(self):
        for arguments in (
            (),
            ("no-such",),
            ("crash", "join"),
            ("crash", "--nodes", "2"),
            ("crash", "--nodes", "1000000"),
            ("crash", "--nodes", "many"),
            ("crash", "--seeds", "0"),
            ("crash", "--jobs", "0"),
            ("crash", "--loss", "1"),
            ("crash", "--loss", "-0.1"),
            ("crash", "--loss", "1%x"),
            ("crash", "--loss", "nan"),
            ("crash", "--protocol", "raft"),
            ("crash", "--seeds", "2", "--jobs", "2", "--csv", "/nowhere"),
        ):
            with self.subTest(arguments=arguments):
                result = self.sim(*arguments, status=2)
                self.assertEqual(result.out, b"")
                self.assertIn("artel sim", result.err)

    def test_a_file_that_cannot_be_written(self):
        result = self.sim("crash", "--nodes", NODES, "--csv", "/no/such/directory/x.csv", status=1)
        self.assertIn("/no/such/directory/x.csv", result.err)


if __name__ == "__main__":
    unittest.main()
