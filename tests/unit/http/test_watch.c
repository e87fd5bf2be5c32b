/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Where watchers come back to. A node in this process, on a clock that moves when it is told to,
 * so that neither 15 seconds of silence nor 7 days of history have to be waited for.
 */

#include "helpers.h"

#include <inttypes.h>
#include <poll.h>

#include "tree/snapshot.h"

#define HEARTBEAT_MS 15000u
/* Long enough for whatever is waited for, under a sanitizer on a busy machine. */
#define PATIENCE_MS 60000
#define STEP_MS 100
/* More than one look at the feed takes. */
#define MANY 3000u

/* ---- changes -------------------------------------------------------------------------------- */

struct change {
    const char *path; /* links below it, one op each; NULL: everything old is forgotten */
    unsigned count;
};

static int make(void *context, const struct tree *tree, struct kv_txn *txn)
{
    const struct change *change = context;
    int err = 0;
    bool more = !change->path;
    while (!err && more) {
        err = tree_expire(tree, txn, UINT64_MAX, MANY, &more);
    }
    for (unsigned i = 0; !err && change->path && i < change->count; i++) {
        CLEANUP_FREE char *path = mem_format("%s/%u", change->path, i);
        const struct tree_put put = {.path = bytes_of_string(path),
                                     .kind = TREE_SYMLINK,
                                     .mode = 0777,
                                     .target = bytes_of_string("t")};
        struct dot dot;
        err = tree_change_put(tree, txn, &put, &dot);
    }
    return err;
}

static void make_change(struct fixture *fixture, const char *path, unsigned count)
{
    struct change change = {.path = path, .count = count};
    change_tree(fixture, make, &change);
}

static void forget_all(struct fixture *fixture)
{
    make_change(fixture, NULL, 0);
}

/* ---- watchers ------------------------------------------------------------------------------- */

/* What a client of the standard keeps: the last id before an empty line. */
struct watch {
    int fd;
    struct buf line;
    bool is_body;
    char id[64];      /* of the block that is being read */
    char event[64];   /* likewise */
    char version[80]; /* of the last event that had one */
    char last_id[64]; /* what it would come back with */
};

static void watch_open(struct fixture *fixture, struct watch *watch, const char *last_id)
{
    CLEANUP_FREE char *request =
        last_id ? mem_format("GET /watch?path=quiet/** HTTP/1.0\r\nLast-Event-ID: %s", last_id)
                : mem_copy_string("GET /watch?path=quiet/** HTTP/1.0");
    *watch = (struct watch){.fd = send_request(fixture, request)};
}

static void watch_close(struct watch *watch)
{
    close(watch->fd);
    buf_done(&watch->line);
}

static void next_line(struct watch *watch)
{
    buf_clear(&watch->line);
    for (;;) {
        struct pollfd readable = {.fd = watch->fd, .events = POLLIN};
        assert_int_equal(poll(&readable, 1, PATIENCE_MS), 1);
        char byte;
        assert_int_equal(read(watch->fd, &byte, 1), 1);
        if (byte == '\n') {
            return;
        }
        if (byte != '\r') {
            buf_add_byte(&watch->line, (uint8_t)byte);
        }
    }
}

/* Reads one block; its event, or "" for an id alone. */
static const char *next_block(struct watch *watch)
{
    while (!watch->is_body) {
        next_line(watch);
        watch->is_body = watch->line.size == 0;
    }
    watch->event[0] = 0;
    watch->id[0] = 0;
    for (;;) {
        next_line(watch);
        const char *line = buf_string(&watch->line);
        if (!*line) {
            memcpy(watch->last_id, watch->id, sizeof watch->id);
            return watch->event;
        }
        sscanf(line, "id: %63s", watch->id);
        sscanf(line, "event: %63s", watch->event);
        const char *version = strstr(line, "\"version\":\"");
        if (version) {
            sscanf(version, "\"version\":\"%79[^\"]", watch->version);
        }
    }
}

static void assert_at(const struct watch *watch, const struct tree_summary *summary,
                      uint64_t position)
{
    char expected[64];
    snprintf(expected, sizeof expected, "%" PRIu64 ":%" PRIu64, summary->epoch, position);
    assert_string_equal(watch->last_id, expected);
}

/* Time passes until a heartbeat comes. Not in one step: who is due but has not come to rest yet is
 * looked at again a second later. */
static void wait_for_heartbeat(struct fixture *fixture, const struct watch *watch)
{
    struct pollfd readable = {.fd = watch->fd, .events = POLLIN};
    for (int waited_ms = 0; waited_ms < PATIENCE_MS; waited_ms += STEP_MS) {
        clock_manual_advance(&fixture->clock, HEARTBEAT_MS);
        if (poll(&readable, 1, STEP_MS) == 1) {
            return;
        }
    }
    fail_msg("no heartbeat");
}

/* Heartbeats come until one has this position: the change may still be on its way to the watcher
 * when the first is due. */
static void heartbeats_reach(struct fixture *fixture, struct watch *watch, uint64_t position)
{
    const struct tree_summary summary = summary_of(fixture);
    char expected[64];
    snprintf(expected, sizeof expected, "%" PRIu64 ":%" PRIu64, summary.epoch, position);
    do {
        wait_for_heartbeat(fixture, watch);
        assert_string_equal(next_block(watch), "");
    } while (strcmp(watch->last_id, expected) != 0);
}

static void a_stream_begins_with_its_position(void **state)
{
    struct fixture *fixture = *state;
    make_change(fixture, "loud", 5);
    const struct tree_summary summary = summary_of(fixture);
    assert_int_equal(summary.feed_last, 5);
    struct watch watch;
    watch_open(fixture, &watch, NULL);
    assert_string_equal(next_block(&watch), "");
    assert_at(&watch, &summary, 5);
    watch_close(&watch);

    make_change(fixture, "quiet", 1);
    watch_open(fixture, &watch, watch.last_id);
    assert_string_equal(next_block(&watch), "");
    assert_at(&watch, &summary, 5);
    assert_string_equal(next_block(&watch), "put");
    assert_at(&watch, &summary, 6);
    watch_close(&watch);
}

/* The quiet watcher is told how far the feed has come, comes back there when all before has been
 * forgotten, and misses nothing; its last event would be no place to come back to. */
static void a_heartbeat_tells_the_position(void **state)
{
    struct fixture *fixture = *state;
    struct watch watch;
    watch_open(fixture, &watch, NULL);
    assert_string_equal(next_block(&watch), "");
    make_change(fixture, "quiet", 1);
    assert_string_equal(next_block(&watch), "put");
    char event_id[64];
    memcpy(event_id, watch.last_id, sizeof event_id);
    make_change(fixture, "loud", 5);
    heartbeats_reach(fixture, &watch, 6);
    watch_close(&watch);

    forget_all(fixture);
    make_change(fixture, "quiet", 1);
    struct tree_summary summary = summary_of(fixture);
    assert_int_equal(summary.feed_first, 7);
    watch_open(fixture, &watch, watch.last_id);
    assert_string_equal(next_block(&watch), "");
    assert_string_equal(next_block(&watch), "put");
    assert_at(&watch, &summary, 7);
    watch_close(&watch);

    watch_open(fixture, &watch, event_id);
    assert_string_equal(next_block(&watch), "");
    assert_string_equal(watch.last_id, event_id);
    assert_string_equal(next_block(&watch), "gap");
    assert_at(&watch, &summary, 6);
    assert_string_equal(next_block(&watch), "put");
    assert_at(&watch, &summary, 7);
    watch_close(&watch);
}

/* Who has to catch up by a lot that does not match is told how far it is, with no clock moving. */
static void what_was_passed_over_is_told_in_between(void **state)
{
    struct fixture *fixture = *state;
    make_change(fixture, "loud", MANY);
    const struct tree_summary summary = summary_of(fixture);
    CLEANUP_FREE char *begin = mem_format("%" PRIu64 ":1", summary.epoch);
    struct watch watch;
    watch_open(fixture, &watch, begin);
    assert_string_equal(next_block(&watch), "");
    assert_at(&watch, &summary, 1);
    assert_string_equal(next_block(&watch), "");
    uint64_t position = 0;
    assert_int_equal(sscanf(strchr(watch.last_id, ':'), ":%" SCNu64, &position), 1);
    assert_in_range(position, 2, MANY);
    watch_close(&watch);
}

/* Of another feed, or of a later state of this one: all that is kept comes, behind a gap. */
static void a_cursor_of_another_feed_is_a_gap(void **state)
{
    struct fixture *fixture = *state;
    make_change(fixture, "loud", 4);
    forget_all(fixture);
    make_change(fixture, "quiet", 2);
    const struct tree_summary summary = summary_of(fixture);
    const uint64_t cursors[][2] = {{summary.epoch + 1, 6}, {summary.epoch, 7}};
    for (size_t i = 0; i < ARRAY_SIZE(cursors); i++) {
        CLEANUP_FREE char *cursor =
            mem_format("%" PRIu64 ":%" PRIu64, cursors[i][0], cursors[i][1]);
        struct watch watch;
        watch_open(fixture, &watch, cursor);
        assert_string_equal(next_block(&watch), "gap");
        assert_at(&watch, &summary, 4);
        assert_string_equal(next_block(&watch), "put");
        assert_string_equal(next_block(&watch), "put");
        assert_at(&watch, &summary, 6);
        watch_close(&watch);
    }
}

/* ---- a snapshot of another tree ---- */

static int hold_nothing(void *context, struct kv_txn *txn, const struct id *file, bool is_published)
{
    (void)is_published;
    (void)context;
    (void)txn;
    (void)file;
    return -ENOENT;
}

static int release_nothing(void *context, struct kv_txn *txn, const struct id *file)
{
    (void)context;
    (void)txn;
    (void)file;
    return -ENOENT;
}

static uint64_t no_time(void *context)
{
    (void)context;
    return 0;
}

static int append(void *context, struct bytes bytes)
{
    buf_add(context, bytes);
    return 0;
}

static int read_buf(void *context, uint64_t offset, void *ret_bytes, size_t size)
{
    memcpy(ret_bytes, ((struct buf *)context)->data + offset, size);
    return 0;
}

/* Two links in "quiet", one in "loud", by the origin of ones. */
static void make_snapshot(struct buf *ret_file)
{
    const struct kv_options options = {.tables = tree_table_names, .tables_count = TREE_TABLES};
    const struct tree_host host = {hold_nothing, release_nothing, no_time, NULL};
    struct origin_id origin;
    memset(origin.bytes, 0x11, sizeof origin.bytes);
    struct kv *kv = NULL;
    struct kv_txn *txn = NULL;
    struct tree *tree = NULL;
    assert_int_equal(kv_open_memory(&options, &kv), 0);
    assert_int_equal(kv_write(kv, &txn), 0);
    assert_int_equal(tree_open(txn, 0, &host, &origin, 1, &tree), 0);
    struct change quiet = {.path = "quiet", .count = 2};
    struct change loud = {.path = "loud", .count = 1};
    assert_int_equal(make(&quiet, tree, txn), 0);
    assert_int_equal(make(&loud, tree, txn), 0);
    struct tree_snapshot_info info;
    assert_int_equal(tree_snapshot_write(tree, txn, append, ret_file, &info), 0);
    kv_abort(txn);
    tree_close(tree);
    kv_close(kv);
}

static int merge(void *context, const struct tree *tree, struct kv_txn *txn)
{
    struct buf *file = context;
    const struct tree_snapshot_source source = {read_buf, file, file->size};
    const struct tree_merge_options options = {.mode = TREE_MERGE_NORMAL};
    struct tree_snapshot *snapshot = NULL;
    int err = tree_snapshot_open(&source, &snapshot);
    if (!err) {
        err = tree_merge_begin(tree, txn, snapshot, &options);
    }
    bool is_done = false;
    while (!err && !is_done) {
        err = tree_merge_step(tree, txn, snapshot, 1000, &is_done);
    }
    tree_snapshot_close(snapshot);
    return err;
}

/* A gap for everybody, then what came, each with the version that it is. */
static void a_merge_is_a_gap_and_events(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_BUF struct buf file = BUF_INIT;
    make_snapshot(&file);
    make_change(fixture, "loud", 1);
    struct watch watch;
    watch_open(fixture, &watch, NULL);
    assert_string_equal(next_block(&watch), "");
    change_tree(fixture, merge, &file);
    const struct tree_summary summary = summary_of(fixture);
    assert_int_equal(summary.feed_last, 3);
    for (int again = 0; again < 2; again++) {
        assert_string_equal(next_block(&watch), "gap");
        assert_at(&watch, &summary, 2);
        assert_string_equal(next_block(&watch), "put");
        assert_at(&watch, &summary, 2);
        assert_string_equal(watch.version, "11111111111111111111111111111111:1");
        assert_string_equal(next_block(&watch), "put");
        assert_at(&watch, &summary, 3);
        assert_string_equal(watch.version, "11111111111111111111111111111111:2");
        watch_close(&watch);
        if (again == 0) {
            CLEANUP_FREE char *begin = mem_format("%" PRIu64 ":1", summary.epoch);
            watch_open(fixture, &watch, begin);
            assert_string_equal(next_block(&watch), "");
        }
    }
    /* Once told, it is not told again. */
    CLEANUP_FREE char *behind = mem_format("%" PRIu64 ":2", summary.epoch);
    watch_open(fixture, &watch, behind);
    assert_string_equal(next_block(&watch), "");
    assert_string_equal(next_block(&watch), "put");
    watch_close(&watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_stream_begins_with_its_position, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_heartbeat_tells_the_position, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_passed_over_is_told_in_between, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_cursor_of_another_feed_is_a_gap, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_merge_is_a_gap_and_events, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
