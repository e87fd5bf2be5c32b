/* SPDX-License-Identifier: Apache-2.0 */
#include "node/followers.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "tree/glob.h"

#define RESTART_FIRST_MS 500u
#define RESTART_LIMIT_MS 60000u
/* One that ran so long did not fail at its start. */
#define RAN_MS 60000u
/* Ends itself within two seconds, unless a disk hangs. */
#define END_WAIT_MS 5000u
#define POLL_MS 20u
#define STATE_BYTES_MAX ((size_t)64 * 1024)

struct follower {
    struct followers *followers;
    struct follow_entry entry;
    char *glob; /* that its pattern means; NULL: none that could be */
    pthread_t thread;
    bool has_thread;
    pid_t pid;         /* under the lock */
    unsigned restarts; /* likewise */
};

struct followers {
    char *address; /* of the node */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_stopped;
    struct follower *all;
    size_t count;
};

/* ---- what is to be followed -------------------------------------------------------------------
 */

void follow_entry_done(struct follow_entry *entry)
{
    free(entry->pattern);
    free(entry->dir);
    free(entry->command);
    free(entry->keep);
}

/* `text` up to `end`, without blanks around it. */
static char *trimmed(const char *text, const char *end)
{
    while (text < end && (*text == ' ' || *text == '\t')) {
        text++;
    }
    while (end > text && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    return mem_format("%.*s", (int)(end - text), text);
}

int follow_entry_parse(const char *text, struct follow_entry *ret_entry)
{
    const char *arrow = strstr(text, " -> ");
    if (!arrow) {
        return -EINVAL;
    }
    struct follow_entry entry = {.pattern = trimmed(text, arrow)};
    const char *rest = arrow + strlen(" -> ");
    const char *end = rest + strlen(rest);
    const char *exec = strstr(rest, " exec ");
    if (exec) {
        entry.command = trimmed(exec + strlen(" exec "), end);
        end = exec;
    }
    const char *keep = strstr(rest, " keep ");
    if (keep && keep < end) {
        entry.keep = trimmed(keep + strlen(" keep "), end);
        end = keep;
    }
    entry.dir = trimmed(rest, end);
    const bool has_number =
        !entry.keep || (*entry.keep && strspn(entry.keep, "0123456789") == strlen(entry.keep));
    if (!*entry.pattern || entry.dir[0] != '/' || !has_number ||
        (entry.command && !*entry.command)) {
        follow_entry_done(&entry);
        return -EINVAL;
    }
    *ret_entry = entry;
    return 0;
}

/* ---- processes --------------------------------------------------------------------------------
 */

static int spawn(const struct follower *follower, pid_t *ret_pid)
{
    const struct follow_entry *entry = &follower->entry;
    char parent[24];
    snprintf(parent, sizeof parent, "%ld", (long)getpid());
    const char *words[16] = {"artel",    "follow", "--to",
                             entry->dir, "--node", follower->followers->address,
                             "--parent", parent};
    size_t count = 8;
    if (entry->command) {
        words[count++] = "--exec";
        words[count++] = entry->command;
    }
    if (entry->keep) {
        words[count++] = "--keep";
        words[count++] = entry->keep;
    }
    words[count++] = "--quiet";
    words[count++] = "--";
    words[count++] = entry->pattern;
    char *copies[ARRAY_SIZE(words)] = {NULL};
    for (size_t i = 0; i < count; i++) {
        copies[i] = mem_copy_string(words[i]);
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    /* The node's own output is for the one who started it. */
    posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    const int number = posix_spawn(ret_pid, "/proc/self/exe", &actions, NULL, copies, environ);
    posix_spawn_file_actions_destroy(&actions);
    for (size_t i = 0; i < count; i++) {
        free(copies[i]);
    }
    return number ? err_from_errno(number) : 0;
}

/* Waits so long, or until the end (true). */
static bool wait_ms(struct followers *followers, uint64_t ms)
{
    const uint64_t until_us = (clock_monotonic_ms(clock_real()) + ms) * 1000;
    pthread_mutex_lock(&followers->lock);
    while (!followers->is_stopped &&
           clock_wait_until(&followers->changed, &followers->lock, until_us) == 0) {
    }
    const bool is_stopped = followers->is_stopped;
    pthread_mutex_unlock(&followers->lock);
    return is_stopped;
}

static void set_pid(struct follower *follower, pid_t pid)
{
    pthread_mutex_lock(&follower->followers->lock);
    follower->pid = pid;
    follower->restarts += pid == 0;
    pthread_mutex_unlock(&follower->followers->lock);
}

/* Ends a process: politely, and after a time not. */
static void end_process(pid_t pid)
{
    const struct timespec pause = {0, POLL_MS * 1000000};
    kill(pid, SIGTERM);
    for (unsigned waited_ms = 0; waited_ms < END_WAIT_MS; waited_ms += POLL_MS) {
        if (waitpid(pid, NULL, WNOHANG) != 0) {
            return;
        }
        nanosleep(&pause, NULL);
    }
    kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

/* Waits for the end of the process, or makes it (true: the node ends). */
static bool watch_process(struct follower *follower, pid_t pid)
{
    siginfo_t info;
    struct followers *followers = follower->followers;
    for (;;) {
        /* A look now and then costs nothing that counts, and needs no signal. */
        if (wait_ms(followers, 10 * POLL_MS)) {
            end_process(pid);
            return true;
        }
        info.si_pid = 0;
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG) < 0 || info.si_pid == pid) {
            return false;
        }
    }
}

static void *supervise(void *argument)
{
    struct follower *follower = argument;
    struct backoff backoff = {.first_ms = RESTART_FIRST_MS, .limit_ms = RESTART_LIMIT_MS};
    bool is_over = false;
    while (!is_over) {
        pid_t pid = 0;
        const uint64_t begin_ms = clock_monotonic_ms(clock_real());
        const int err = spawn(follower, &pid);
        if (!err) {
            set_pid(follower, pid);
            is_over = watch_process(follower, pid);
        }
        set_pid(follower, 0);
        if (is_over) {
            break;
        }
        if (clock_monotonic_ms(clock_real()) - begin_ms >= RAN_MS) {
            backoff.failures = 0;
        }
        uint64_t number = 0;
        random_system(&number, sizeof number);
        const uint64_t pause_ms = backoff_next_ms(&backoff, number);
        log_warn("follower_ended", KV("pattern", follower->entry.pattern),
                 KV("dir", follower->entry.dir), KV("error", err ? err_name(err) : "exit"),
                 KV("again_ms", pause_ms));
        is_over = wait_ms(follower->followers, pause_ms);
    }
    return NULL;
}

/* ---- all of them ------------------------------------------------------------------------------
 */

/* One that makes no sense ends its process, which says so. */
static char *checked_glob(const char *pattern)
{
    char *glob = glob_of_words(pattern);
    if (glob_check(bytes_of_string(glob))) {
        free(STEAL_PTR(glob));
    }
    return glob;
}

int followers_new(const char *lines, const char *socket_path, size_t *ret_line,
                  struct followers **ret_followers)
{
    struct followers *followers = mem_alloc(sizeof *followers);
    followers->address = mem_format("unix:%s", socket_path);
    followers->all = mem_alloc_array(FOLLOWERS_MAX, sizeof *followers->all);
    pthread_mutex_init(&followers->lock, NULL);
    clock_init_condition(&followers->changed);
    size_t line = 0;
    int err = 0;
    while (!err && lines && *lines) {
        const size_t size = strcspn(lines, "\n");
        char *text = mem_format("%.*s", (int)size, lines);
        line++;
        struct follower *follower = &followers->all[followers->count];
        err =
            followers->count < FOLLOWERS_MAX ? follow_entry_parse(text, &follower->entry) : -EINVAL;
        free(text);
        if (!err) {
            follower->followers = followers;
            follower->glob = checked_glob(follower->entry.pattern);
            followers->count++;
        }
        lines += size + (lines[size] == '\n');
    }
    if (err) {
        *ret_line = line;
        followers_free(followers);
        return err;
    }
    *ret_followers = followers;
    return 0;
}

void followers_start(struct followers *followers)
{
    for (size_t i = 0; i < followers->count; i++) {
        struct follower *follower = &followers->all[i];
        if (pthread_create(&follower->thread, NULL, supervise, follower) != 0) {
            mem_out_of_memory();
        }
        follower->has_thread = true;
    }
}

void followers_stop(struct followers *followers)
{
    pthread_mutex_lock(&followers->lock);
    followers->is_stopped = true;
    pthread_cond_broadcast(&followers->changed);
    pthread_mutex_unlock(&followers->lock);
    for (size_t i = 0; i < followers->count; i++) {
        if (followers->all[i].has_thread) {
            pthread_join(followers->all[i].thread, NULL);
            followers->all[i].has_thread = false;
        }
    }
}

void followers_free(struct followers *followers)
{
    if (!followers) {
        return;
    }
    followers_stop(followers);
    for (size_t i = 0; i < followers->count; i++) {
        follow_entry_done(&followers->all[i].entry);
        free(followers->all[i].glob);
    }
    pthread_cond_destroy(&followers->changed);
    pthread_mutex_destroy(&followers->lock);
    free(followers->all);
    free(followers->address);
    free(followers);
}

size_t followers_count(const struct followers *followers)
{
    return followers ? followers->count : 0;
}

bool followers_match(const struct followers *followers, struct bytes path)
{
    for (size_t i = 0; i < followers_count(followers); i++) {
        const char *glob = followers->all[i].glob;
        if (glob && glob_match(bytes_of_string(glob), path)) {
            return true;
        }
    }
    return false;
}

void followers_read(struct followers *followers, size_t index, struct follower_info *ret_info,
                    struct buf *state)
{
    CHECK(index < followers->count);
    const struct follower *follower = &followers->all[index];
    pthread_mutex_lock(&followers->lock);
    *ret_info = (struct follower_info){
        .pattern = follower->entry.pattern,
        .dir = follower->entry.dir,
        .pid = follower->pid,
        .restarts = follower->restarts,
    };
    pthread_mutex_unlock(&followers->lock);
    if (ret_info->pid) {
        char *path = mem_format("%s/.artel-follow/state", follower->entry.dir);
        (void)!file_read_path(AT_FDCWD, path, STATE_BYTES_MAX, state);
        free(path);
    }
}
