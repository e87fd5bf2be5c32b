# SPDX-License-Identifier: Apache-2.0
"""Content of which the rest goes while it is read: who reads it is told who could not be asked."""

import http.client
import re
import threading

import harness
from harness import MIB, check, content, file_id
from test_fetch import Fetching, get, why
from trees import put, put_tar, wait_on, wait_same

SIZE = 8 * MIB
# So that the publisher can be killed in the middle: half of it takes ten seconds.
RATE = "400K"


class BrokenStream(Fetching):
    def three(self, path, data):
        """A publisher that gives slowly, one that has the first half, one that has nothing."""
        first = self.new("--upload-rate", RATE).start()
        nodes = [first, *(self.new("--join", first.at).start() for _ in range(2))]
        self.wait_all_alive()
        if "/" in path:
            put_tar(first, path.split("/")[0], {path.split("/")[1]: data})
        else:
            put(first, path, data)
        half = len(data) // 2
        put(nodes[1], "half", data[:half])  # the same blocks
        wait_same(nodes)
        return nodes

    def beside(self, function):
        results = []
        thread = threading.Thread(target=lambda: results.append(function()))
        thread.start()
        self.addCleanup(thread.join)

        def result():
            thread.join()
            check(results, "it has failed")
            return results[0]

        return result

    def kill_in_the_middle(self, publisher, reader, data):
        """When the half is here that another node has, and more comes."""
        def is_behind_half():
            told = why(reader, file_id(data))
            check(told["state"] != "done", "it was over before")
            return told.get("here", 0) > len(data) // 2
        wait_on([reader], is_behind_half, "the second half comes")
        publisher.kill()

    def assert_told(self, reader, publisher, what):
        told = why(reader, what)
        self.assertEqual((told["state"], told["error"]), ("failed", "unreachable"), told)
        self.assertEqual([(each["name"], each["why"]) for each in told["not_asked"]],
                         [(publisher.name, "unreachable")])
        shown = self.artel("why", reader, what).out.decode()
        self.assertRegex(shown, rf"(?m)^not asked +{publisher.name}  z  {re.escape(publisher.at)}  "
                                r"unreachable$")

    def test_an_answer_breaks_off_and_why_tells_the_rest(self):
        data = content("broken", SIZE)
        publisher, half, reader = self.three("file", data)

        def read():
            try:
                return reader.get("/fs/file").body
            except http.client.IncompleteRead as failure:
                return failure.partial
        result = self.beside(read)
        self.kill_in_the_middle(publisher, reader, data)
        got = result()
        self.assertTrue(len(data) // 2 <= len(got) < len(data), len(got))
        self.assertEqual(got == data[:len(got)], True)
        self.assert_told(reader, publisher, "file")
        # What came is here, and the rest comes when the publisher does.
        publisher.start()
        self.wait_all_alive()
        self.assertEqual(get(reader, "file") == data, True)
        self.assertEqual(why(reader, "file").get("not_asked", []), [])

    def assert_named(self, result, publisher, path):
        self.assertEqual(result.status, 1, result)
        self.assertRegex(result.err, rf"^artel get: {path}: .*; 1 could not be asked: {publisher.name} "
                                     rf"\(zone z, {re.escape(publisher.at)}, unreachable\)"
                                     r"( \(not_found\))?\n$")

    def test_get_names_who_could_not_be_asked(self):
        data = content("named", SIZE)
        publisher, half, reader = self.three("file", data)
        target = self.root / "target"
        result = self.beside(lambda: self.artel("get", reader, "file", target))
        self.kill_in_the_middle(publisher, reader, data)
        self.assert_named(result(), publisher, "file")
        self.assertFalse(target.exists())
        self.assert_told(reader, publisher, "file")

    def test_get_of_a_directory_does_so_too(self):
        data = content("directory", SIZE)
        publisher, half, reader = self.three("dir/file", data)
        target = self.root / "target"
        result = self.beside(lambda: self.artel("get", reader, "dir", target))
        self.kill_in_the_middle(publisher, reader, data)
        self.assert_named(result(), publisher, "dir/file")
        self.assertFalse(target.exists())


if __name__ == "__main__":
    harness.main()
