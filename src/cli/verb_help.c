/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/manual.h"
#include "cli/verbs.h"
#include "client/out_file.h"

void cli_print_help(const struct verb *verb)
{
    CLEANUP_FREE char *title = verb_title(verb);
    printf("usage: artel %s %s\n\n%s\n", title, verb->synopsis, verb->about);
    for (size_t i = 0; i < verb->keys_count; i++) {
        const struct config_key *key = &verb->keys[i];
        const char letter = verb_letter(verb, key->name);
        if (letter) {
            printf("  -%c, --%-8s %s", letter, key->name, key->help);
        } else {
            printf("  --%-12s %s", key->name, key->help);
        }
        if (key->default_value) {
            printf(" (%s unless given)", key->default_value);
        }
        putchar('\n');
    }
}

void cli_print_verbs(FILE *out)
{
    fputs("usage: artel VERB [FLAGS] [ARGUMENTS]\n\n", out);
    const char *group = NULL;
    for (const struct verb *const *at = verbs_all; *at; at++) {
        if (!verb_is_in(*at, group)) {
            group = (*at)->group;
            fprintf(out,
                    "\nOn a data directory that no node runs on, `artel %s VERB --data DIR`:\n\n",
                    group);
        }
        fprintf(out, "  %-10s %s\n", (*at)->name, (*at)->summary);
    }
    fputs("\n`artel VERB --help` tells more; `artel --version` the version.\n"
          "Every flag --some-name is also the variable ARTEL_SOME_NAME and a key of the file\n"
          "that --config names.\n",
          out);
}

/* The page of `verb`, or of the program, as DIR/NAME.1. */
static int write_page(int dir_fd, const struct verb *verb)
{
    CLEANUP_BUF struct buf page = BUF_INIT;
    manual_add_page(&page, verb);
    CLEANUP_FREE char *title = manual_title(verb);
    CLEANUP_FREE char *name = mem_format("%s.1", title);
    struct out_file *file = NULL;
    int err = out_file_open(dir_fd, name, &file);
    if (err) {
        return err;
    }
    err = out_file_write(file, buf_bytes(&page));
    if (err) {
        out_file_abort(file);
        return err;
    }
    const struct out_file_options options = {.mode = 0644, .mtime = {.tv_nsec = UTIME_NOW}};
    return out_file_commit(file, &options);
}

static enum cli_status write_pages(const struct invocation *invocation, const char *path)
{
    CLEANUP_FD int dir_fd = -1;
    int err = file_open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, &dir_fd);
    if (!err) {
        err = write_page(dir_fd, NULL);
    }
    for (const struct verb *const *at = verbs_all; !err && *at; at++) {
        err = write_page(dir_fd, *at);
    }
    if (err) {
        cli_error(invocation, "%s: %s", path, err_text(err));
    }
    return err ? CLI_FAILED : CLI_OK;
}

static enum cli_status run_help(const struct invocation *invocation)
{
    const size_t count = invocation->arguments_count;
    const char *pages = config_string(invocation->config, "man-pages");
    if (pages) {
        return count > 0 ? cli_usage(invocation, "--man-pages writes the pages of all verbs")
                         : write_pages(invocation, pages);
    }
    size_t named = 0;
    const struct verb *verb = verbs_find(invocation->arguments, count, &named);
    const bool is_program = count == 0 || (count == 1 && verbs_is_group(invocation->arguments[0]));
    if (named != count && !is_program) {
        return cli_usage(invocation, "there is no verb '%s%s%s'", invocation->arguments[0],
                         count > 1 ? " " : "", count > 1 ? invocation->arguments[1] : "");
    }
    if (config_switch(invocation->config, "man")) {
        CLEANUP_BUF struct buf page = BUF_INIT;
        manual_add_page(&page, verb);
        fputs(buf_string(&page), stdout);
    } else if (verb) {
        cli_print_help(verb);
    } else {
        cli_print_verbs(stdout);
    }
    return CLI_OK;
}

static const struct config_key keys[] = {
    {"man", NULL, "print the page of the manual instead: `artel help --man put | man -l -`", true},
    {"man-pages", NULL, "DIR: write all pages of the manual into it, artel.1 and artel-VERB.1",
     false},
};

const struct verb verb_help = {
    .name = "help",
    .summary = "tell about a verb, as text or as a page of the manual",
    .synopsis = "[--man] [VERB]",
    .about = "Lists the verbs, or tells about one, as `artel VERB --help` does.\n",
    .first_argument = CLI_ARGUMENT_VERB,
    .other_arguments = CLI_ARGUMENT_VERB,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_help,
};
