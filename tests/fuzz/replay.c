/* SPDX-License-Identifier: Apache-2.0 */

/* Runs a fuzz target over every file of the directories in its arguments, so that what fuzzing
 * once found stays tested without libFuzzer. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "fuzz.h"

#define INPUT_BYTES_MAX ((size_t)64 * 1024 * 1024)

static int replay_file(int dir_fd, const char *name)
{
    CLEANUP_BUF struct buf content = BUF_INIT;
    const int err = file_read_path(dir_fd, name, INPUT_BYTES_MAX, &content);
    if (err) {
        return err;
    }
    /* In memory of its own size, so that the sanitizer sees a read beyond it. */
    CLEANUP_FREE uint8_t *exact = malloc(content.size);
    if (content.size) {
        CHECK(exact != NULL);
        memcpy(exact, content.data, content.size);
    }
    return LLVMFuzzerTestOneInput(exact, content.size) == 0 ? 0 : -EINVAL;
}

/* Every file of `path` but those whose name begins with a dot; returns how many, or an error. */
static long replay_directory(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir) {
        return err_from_errno(errno);
    }
    long files_count = 0;
    int err = 0;
    const struct dirent *entry;
    while (!err && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        err = replay_file(dirfd(dir), entry->d_name);
        if (err) {
            fprintf(stderr, "%s/%s: %s\n", path, entry->d_name, err_text(err));
        }
        files_count++;
    }
    closedir(dir);
    return err ? err : files_count;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s DIRECTORY...\n", argv[0]);
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        const long files_count = replay_directory(argv[i]);
        if (files_count < 0) {
            fprintf(stderr, "%s: %s\n", argv[i], err_text((int)files_count));
            return 1;
        }
        printf("%s: %ld inputs\n", argv[i], files_count);
        if (files_count == 0) {
            fprintf(stderr, "%s: there are none\n", argv[i]);
            return 1;
        }
    }
    return 0;
}
