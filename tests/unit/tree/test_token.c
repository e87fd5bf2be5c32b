/* SPDX-License-Identifier: Apache-2.0 */

/* Watchers that move from node to node: nodes with logs of their own whose ops reach each other in
 * different orders, and what a watcher with a token is told at each. */

#include "helpers.h"

#include "base/random.h"
#include "hash/crc32c.h"
#include "tree/token.h"

enum { NODES_MAX = 4, LOGS_MAX = 300, OPS_MAX = 4000 };

/* All ops that were ever made, in the order of their making. */
struct world {
    struct fixture *nodes[NODES_MAX];
    size_t nodes_count;
    struct {
        struct dot dot;
        struct id hash;
        struct buf bytes;
    } ops[OPS_MAX];
    size_t ops_count;
    uint64_t applied[NODES_MAX][LOGS_MAX]; /* by log */
};

static struct origin_id log_id(unsigned log)
{
    struct origin_id id = {{(uint8_t)(log * 37), (uint8_t)log, (uint8_t)(log >> 8), 1}};
    return id;
}

static unsigned log_number(const struct origin_id *id)
{
    return id->bytes[1] + 256u * id->bytes[2];
}

static struct world *world_new(size_t nodes_count)
{
    struct world *world = mem_alloc(sizeof *world);
    world->nodes_count = nodes_count;
    for (size_t i = 0; i < nodes_count; i++) {
        world->nodes[i] = fixture_new(false, (char)('W' + i));
    }
    return world;
}

static void world_free(struct world *world)
{
    for (size_t i = 0; i < world->nodes_count; i++) {
        fixture_free(world->nodes[i]);
    }
    for (size_t i = 0; i < world->ops_count; i++) {
        buf_done(&world->ops[i].bytes);
    }
    free(world);
}

/* The next op of a log: a change of a path of its own. */
static void make_op(struct world *world, unsigned log)
{
    assert_true(world->ops_count < OPS_MAX);
    struct origin_id origin = log_id(log);
    uint64_t seq = 1;
    struct id previous = {0};
    for (size_t i = 0; i < world->ops_count; i++) {
        if (origin_id_equal(&world->ops[i].dot.origin, &origin)) {
            seq = world->ops[i].dot.seq + 1;
            previous = world->ops[i].hash;
        }
    }
    char path[32];
    snprintf(path, sizeof path, "%u/%u", log, (unsigned)seq);
    const struct tree_change change = {
        .kind = TREE_SYMLINK, .path = bytes_of_string(path), .target = bytes_of_string("t")};
    const struct tree_op op = {.origin = origin,
                               .seq = seq,
                               .previous = previous,
                               .lamport = world->ops_count + 1,
                               .event = TREE_EVENT_CHANGES,
                               .changes = &change,
                               .changes_count = 1};
    world->ops[world->ops_count].dot = (struct dot){origin, seq};
    struct buf *bytes = &world->ops[world->ops_count].bytes;
    assert_int_equal(tree_op_format(&op, bytes), 0);
    sha256_id(buf_bytes(bytes), &world->ops[world->ops_count].hash);
    world->ops_count++;
}

/* Applies op number `index` at a node if it is the next of its log there. */
static bool deliver(struct world *world, size_t node, size_t index)
{
    const struct dot *dot = &world->ops[index].dot;
    uint64_t *applied = &world->applied[node][log_number(&dot->origin)];
    if (dot->seq != *applied + 1) {
        return false;
    }
    struct tree_op_parsed parsed;
    const struct bytes bytes = buf_bytes(&world->ops[index].bytes);
    assert_int_equal(tree_op_parse(bytes, &parsed), 0);
    assert_int_equal(apply_whole(world->nodes[node], &parsed.op, bytes), 0);
    tree_op_parsed_done(&parsed);
    *applied = dot->seq;
    return true;
}

static void deliver_all(struct world *world, size_t node)
{
    for (size_t i = 0; i < world->ops_count; i++) {
        (void)deliver(world, node, i);
    }
}

static void make_at(struct world *world, size_t node, unsigned log)
{
    make_op(world, log);
    assert_true(deliver(world, node, world->ops_count - 1));
}

static struct tree_summary summary_at(struct world *world, size_t node)
{
    struct tree_summary summary;
    assert_int_equal(tree_summary(world->nodes[node]->tree, world->nodes[node]->txn, &summary), 0);
    return summary;
}

static void forget_before(struct world *world, size_t node, uint64_t before_ms)
{
    bool more = true;
    while (more) {
        assert_int_equal(tree_expire(world->nodes[node]->tree, world->nodes[node]->txn, before_ms,
                                     OPS_MAX, &more),
                         0);
    }
}

/* ---- watchers ---- */

struct watcher {
    size_t node;
    uint64_t position;
    struct tree_seen seen; /* of what comes, by the token that it came with */
    uint64_t told[LOGS_MAX];
    uint64_t repeated;
};

/* Reads up to `count` positions; each op that it is told follows the one before in its log, or was
 * told already. */
static void watch(struct world *world, struct watcher *watcher, size_t count)
{
    struct fixture *node = world->nodes[watcher->node];
    for (size_t i = 0; i < count; i++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        struct tree_feed_item item;
        const int err = tree_feed_next(node->tree, node->txn, watcher->position, &bytes, &item);
        if (err) {
            assert_int_equal(err, -ENOENT);
            return;
        }
        watcher->position = item.position;
        const struct tree_op *op = &item.parsed.op;
        const struct dot dot = {op->origin, op->seq};
        if (!tree_seen_has(&watcher->seen, &dot)) {
            uint64_t *told = &watcher->told[log_number(&op->origin)];
            assert_true(op->seq <= *told + 1);
            watcher->repeated += op->seq <= *told;
            *told = op->seq > *told ? op->seq : *told;
        }
        tree_op_parsed_done(&item.parsed);
    }
}

static int token_at(struct world *world, size_t node, uint64_t position, struct buf *ret_text)
{
    return tree_token_make(world->nodes[node]->tree, world->nodes[node]->txn, position, ret_text);
}

static int begin_at(struct world *world, struct watcher *watcher, size_t node, struct bytes text)
{
    struct tree_token token;
    assert_int_equal(tree_token_parse(text, &token), 0);
    uint64_t position = 0;
    struct tree_seen seen = {0};
    const int err = tree_token_begin(world->nodes[node]->tree, world->nodes[node]->txn, &token,
                                     &position, &seen);
    tree_seen_done(&token.seen);
    if (!err) {
        tree_seen_done(&watcher->seen);
        watcher->seen = seen;
        watcher->node = node;
        watcher->position = position;
    }
    return err;
}

static int move_to(struct world *world, struct watcher *watcher, size_t node)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    const int err = token_at(world, watcher->node, watcher->position, &text);
    assert_int_equal(err, 0);
    return begin_at(world, watcher, node, buf_bytes(&text));
}

/* It was told all that is at the node. */
static void assert_told_all(const struct world *world, const struct watcher *watcher)
{
    for (unsigned log = 0; log < LOGS_MAX; log++) {
        assert_true(watcher->told[log] >= world->applied[watcher->node][log]);
    }
}

static void watcher_done(struct watcher *watcher)
{
    tree_seen_done(&watcher->seen);
}
#define CLEANUP_WATCHER __attribute__((cleanup(watcher_done)))

/* ---- tests ---- */

/* The second node has what the first has in another order, lacks some of it, and has more. */
static void test_a_watcher_moves_in_the_middle(void **state)
{
    (void)state;
    struct world *world = world_new(2);
    make_at(world, 0, 0);
    make_at(world, 0, 1);
    make_at(world, 0, 1);
    make_at(world, 0, 0);
    make_at(world, 1, 2);
    const size_t order[] = {1, 0, 2};
    for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
        assert_true(deliver(world, 1, order[i]));
    }
    CLEANUP_WATCHER struct watcher watcher = {0};
    watch(world, &watcher, 2); /* 0:1 and 1:1 */
    assert_int_equal(move_to(world, &watcher, 1), 0);
    /* There: 2:1 1:1 0:1 1:2. It begins before the first that it lacks. */
    assert_int_equal(watcher.position, 0);
    watch(world, &watcher, OPS_MAX);
    assert_told_all(world, &watcher);
    assert_int_equal(watcher.repeated, 0);
    /* What it saw at the first and comes here later is no news. */
    watcher.position = summary_at(world, 1).feed_last;
    assert_true(deliver(world, 1, 3));
    watch(world, &watcher, OPS_MAX);
    assert_told_all(world, &watcher);
    /* Back again: all is known but nothing is missed. */
    make_at(world, 0, 0);
    assert_int_equal(move_to(world, &watcher, 0), 0);
    assert_int_equal(watcher.position, 4);
    watch(world, &watcher, OPS_MAX);
    assert_told_all(world, &watcher);
    assert_int_equal(watcher.repeated, 0);
    world_free(world);
}

static void test_what_comes_later_was_seen(void **state)
{
    (void)state;
    struct world *world = world_new(2);
    make_at(world, 0, 0);
    make_at(world, 0, 0);
    make_at(world, 0, 5);
    CLEANUP_WATCHER struct watcher watcher = {0};
    watch(world, &watcher, 3);
    assert_true(deliver(world, 1, 0));
    assert_int_equal(move_to(world, &watcher, 1), 0);
    assert_int_equal(watcher.position, 1);
    make_op(world, 0);
    deliver_all(world, 1);
    watch(world, &watcher, OPS_MAX);
    assert_told_all(world, &watcher);
    assert_int_equal(watcher.repeated, 0);
    assert_int_equal(watcher.told[0], 3);
    world_free(world);
}

/* What is lacking was forgotten: told, not passed over. What was seen may be. */
static void test_forgotten_ops_are_a_gap(void **state)
{
    (void)state;
    struct world *world = world_new(2);
    make_at(world, 0, 0);
    make_at(world, 0, 0);
    world->nodes[1]->host.now_ms = 10;
    deliver_all(world, 1);
    world->nodes[1]->host.now_ms = 20;
    make_at(world, 1, 0);
    forget_before(world, 1, 20);
    CLEANUP_WATCHER struct watcher watcher = {0};
    CLEANUP_BUF struct buf early = BUF_INIT;
    assert_int_equal(token_at(world, 0, 1, &early), 0);
    assert_int_equal(begin_at(world, &watcher, 1, buf_bytes(&early)), -ESTALE);
    watch(world, &watcher, 2);
    assert_int_equal(move_to(world, &watcher, 1), 0);
    watch(world, &watcher, OPS_MAX);
    assert_told_all(world, &watcher);
    assert_int_equal(watcher.repeated, 0);
    /* Nothing was seen of a log that is not kept from its first op. */
    make_at(world, 1, 7);
    forget_before(world, 1, 21);
    CLEANUP_BUF struct buf now = BUF_INIT;
    assert_int_equal(token_at(world, 0, 2, &now), 0);
    assert_int_equal(begin_at(world, &watcher, 1, buf_bytes(&now)), -ESTALE);
    world_free(world);
}

static void test_positions_that_make_no_token(void **state)
{
    (void)state;
    struct world *world = world_new(1);
    make_at(world, 0, 0);
    make_at(world, 0, 0);
    struct fixture *node = world->nodes[0];
    CLEANUP_BUF struct buf text = BUF_INIT;
    assert_int_equal(token_at(world, 0, 3, &text), -EINVAL);
    struct tree_state row;
    assert_int_equal(state_get(node->tree, node->txn, &row), 0);
    row.feed_last++;
    const struct feed_row gap = {.kind = TREE_FEED_GAP, .seq = row.feed_last};
    assert_int_equal(feed_put(node->tree, node->txn, row.feed_last, &gap), 0);
    assert_int_equal(state_put(node->tree, node->txn, &row), 0);
    assert_int_equal(token_at(world, 0, 2, &text), -ESTALE);
    assert_int_equal(text.size, 0);
    assert_int_equal(token_at(world, 0, 3, &text), 0);
    forget_before(world, 0, UINT64_MAX);
    assert_int_equal(token_at(world, 0, 1, &text), -ESTALE);
    buf_clear(&text);
    assert_int_equal(token_at(world, 0, 3, &text), 0);
    world_free(world);
}

/* More logs than are told one by one. Those that nothing is kept of are known by their sum. */
static void test_logs_known_by_their_sum(void **state)
{
    (void)state;
    enum { MANY = TREE_TOKEN_LOGS_FEW + 50 };
    struct world *world = world_new(3);
    for (unsigned log = 0; log < MANY; log++) {
        make_at(world, 0, log);
    }
    deliver_all(world, 1);
    deliver_all(world, 2);
    forget_before(world, 0, UINT64_MAX);
    forget_before(world, 1, UINT64_MAX);
    CLEANUP_WATCHER struct watcher watcher = {.position = MANY};
    for (unsigned log = 0; log < MANY; log++) {
        watcher.told[log] = 1;
    }
    CLEANUP_BUF struct buf text = BUF_INIT;
    assert_int_equal(token_at(world, 0, MANY, &text), 0);
    assert_int_equal(text.size, 2 * (1 + 8 + 4 + 4));
    /* The same everywhere: nothing is to be told. Node 2 has kept it all. */
    for (size_t node = 0; node < 3; node++) {
        assert_int_equal(begin_at(world, &watcher, node, buf_bytes(&text)), 0);
        assert_int_equal(watcher.position, MANY);
    }
    /* New ones, and more of the old ones, of which the token knows nothing. */
    for (unsigned log = MANY - 5; log < MANY + 5; log++) {
        make_op(world, log);
    }
    deliver_all(world, 1);
    deliver_all(world, 2);
    for (size_t node = 1; node < 3; node++) {
        struct watcher other = watcher;
        other.seen = (struct tree_seen){0};
        assert_int_equal(begin_at(world, &other, node, buf_bytes(&text)), 0);
        assert_int_equal(other.position, MANY);
        watch(world, &other, OPS_MAX);
        assert_told_all(world, &other);
        assert_int_equal(other.repeated, 0);
        watcher_done(&other);
    }
    /* Only new ones, told by what is kept as a whole, though the order is another. */
    CLEANUP_BUF struct buf later = BUF_INIT;
    assert_int_equal(token_at(world, 1, MANY + 10, &later), 0);
    assert_true(later.size > text.size);
    assert_int_equal(begin_at(world, &watcher, 0, buf_bytes(&later)), 0);
    deliver_all(world, 0);
    for (unsigned log = MANY - 5; log < MANY + 5; log++) {
        watcher.told[log]++;
    }
    watch(world, &watcher, OPS_MAX);
    assert_told_all(world, &watcher);
    assert_int_equal(watcher.repeated, 0);
    /* Another sum is a gap. */
    make_op(world, 3);
    deliver_all(world, 1);
    forget_before(world, 1, UINT64_MAX);
    assert_int_equal(begin_at(world, &watcher, 1, buf_bytes(&text)), -ESTALE);
    world_free(world);
}

/* Logs that came and that only this node has kept, among many. */
static void test_new_logs_in_another_order(void **state)
{
    (void)state;
    enum { MANY = TREE_TOKEN_LOGS_FEW + 1 };
    struct world *world = world_new(2);
    for (unsigned log = 0; log < MANY; log++) {
        make_at(world, 0, log);
    }
    deliver_all(world, 1);
    forget_before(world, 0, UINT64_MAX);
    forget_before(world, 1, UINT64_MAX);
    make_at(world, 1, MANY);
    make_at(world, 1, MANY + 1);
    make_at(world, 1, MANY);
    /* Node 0 has this, too, but nothing in its feed; node 1 has it behind what is new. */
    make_at(world, 0, 3);
    forget_before(world, 0, UINT64_MAX);
    deliver_all(world, 1);
    CLEANUP_BUF struct buf text = BUF_INIT;
    assert_int_equal(token_at(world, 0, MANY + 1, &text), 0);
    CLEANUP_WATCHER struct watcher watcher = {0};
    for (unsigned log = 0; log < MANY; log++) {
        watcher.told[log] = log == 3 ? 2 : 1;
    }
    assert_int_equal(begin_at(world, &watcher, 1, buf_bytes(&text)), 0);
    watch(world, &watcher, OPS_MAX);
    assert_told_all(world, &watcher);
    assert_int_equal(watcher.repeated, 0);
    world_free(world);
}

/* One log is known by its sum only, and the token has seen a part of what is read again for the
 * sake of another one. */
static void test_a_part_of_a_log_known_by_its_sum(void **state)
{
    (void)state;
    enum { MANY = TREE_TOKEN_LOGS_FEW + 1, LISTED = 1, SUMMED = 2 };
    struct world *world = world_new(2);
    for (unsigned log = 0; log < MANY; log++) {
        make_at(world, 0, log);
    }
    deliver_all(world, 1);
    forget_before(world, 0, UINT64_MAX);
    forget_before(world, 1, UINT64_MAX);
    make_at(world, 0, SUMMED);
    forget_before(world, 0, UINT64_MAX);
    make_at(world, 0, LISTED);
    assert_true(deliver(world, 1, MANY + 1));
    assert_true(deliver(world, 1, MANY));
    make_at(world, 1, SUMMED);
    CLEANUP_WATCHER struct watcher watcher = {.position = MANY + 1};
    for (unsigned log = 0; log < MANY; log++) {
        watcher.told[log] = log == SUMMED ? 2 : 1;
    }
    assert_int_equal(move_to(world, &watcher, 1), 0);
    assert_int_equal(watcher.position, MANY);
    watch(world, &watcher, OPS_MAX);
    assert_told_all(world, &watcher);
    assert_int_equal(watcher.repeated, 0);
    world_free(world);
}

/* Further back than is looked for: everything kept is read again, and what was seen left out. */
static void test_far_behind(void **state)
{
    (void)state;
    enum { MANY = TREE_TOKEN_LOOKS_MAX + 10 };
    struct fixture *a = fixture_new(false, 'A');
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(put_file(a, i % 2 ? "f" : "g", 'x'), 0);
    }
    CLEANUP_BUF struct buf text = BUF_INIT;
    assert_int_equal(tree_token_make(a->tree, a->txn, 9, &text), -EAGAIN);
    assert_int_equal(tree_token_make(a->tree, a->txn, MANY - TREE_TOKEN_LOOKS_MAX, &text), 0);
    struct tree_token token = {.seen = {mem_alloc(sizeof(struct tree_seen_log)), 1}};
    token.seen.logs[0] = (struct tree_seen_log){origin_of('A'), 4};
    uint64_t position = 99;
    struct tree_seen seen;
    assert_int_equal(tree_token_begin(a->tree, a->txn, &token, &position, &seen), 0);
    assert_int_equal(position, 0);
    assert_true(tree_seen_has(&seen, &(struct dot){origin_of('A'), 4}));
    assert_false(tree_seen_has(&seen, &(struct dot){origin_of('A'), 5}));
    assert_false(tree_seen_has(&seen, &(struct dot){origin_of('B'), 1}));
    tree_seen_done(&seen);
    token.seen.logs[0].seq = MANY - 4;
    assert_int_equal(tree_token_begin(a->tree, a->txn, &token, &position, &seen), 0);
    assert_int_equal(position, MANY - 4);
    tree_seen_done(&seen);
    tree_seen_done(&token.seen);
    fixture_free(a);
}

/* Nodes, logs, orders, forgetting and moves at random. Without a gap nothing is left out; and where
 * nothing was forgotten there is none. */
static void run_random(uint64_t seed, unsigned logs, bool forgets)
{
    struct random random;
    random_init(&random, seed);
    struct world *world = world_new(3);
    CLEANUP_WATCHER struct watcher watcher = {0};
    uint64_t now_ms = 0;
    for (unsigned step = 0; step < 600; step++) {
        const size_t node = (size_t)random_below(&random, 3);
        world->nodes[node]->host.now_ms = ++now_ms;
        const uint64_t what = random_below(&random, 10);
        if (what < 3 && world->ops_count < OPS_MAX) {
            make_op(world, (unsigned)random_below(&random, logs));
        } else if (what < 6 && world->ops_count > 0) {
            for (unsigned i = 0; i < 20; i++) {
                (void)deliver(world, node, (size_t)random_below(&random, world->ops_count));
            }
        } else if (what < 7) {
            deliver_all(world, node);
        } else if (what < 9) {
            watch(world, &watcher, (size_t)random_below(&random, 10));
        } else if (forgets && random_below(&random, 4) == 0 && node != watcher.node) {
            forget_before(world, node, now_ms > 100 ? now_ms - 100 : 0);
        } else {
            const int err = move_to(world, &watcher, node);
            if (err) {
                assert_int_equal(err, -ESTALE);
                assert_true(forgets || logs > TREE_TOKEN_LOGS_FEW);
            }
        }
    }
    watch(world, &watcher, OPS_MAX);
    assert_told_all(world, &watcher);
    if (logs <= TREE_TOKEN_LOGS_FEW && !forgets) {
        for (size_t node = 0; node < 3; node++) {
            deliver_all(world, node);
            assert_int_equal(move_to(world, &watcher, node), 0);
            watch(world, &watcher, OPS_MAX);
            assert_told_all(world, &watcher);
        }
    }
    world_free(world);
}

static void test_random_moves(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        run_random(seed, 5, false);
        run_random(seed, 5, true);
        run_random(seed, 250, false);
        run_random(seed, 250, true);
    }
}

static void test_texts(void **state)
{
    (void)state;
    struct tree_seen_log logs[] = {{{{1}}, 5}, {{{2}}, UINT64_MAX}};
    const struct tree_token token = {.others = 7, .seen = {logs, 2}};
    CLEANUP_BUF struct buf text = BUF_INIT;
    tree_token_format(&token, &text);
    assert_int_equal(text.size, 2 * (1 + 8 + 4 + 2 * 24 + 4));
    struct tree_token parsed;
    assert_int_equal(tree_token_parse(buf_bytes(&text), &parsed), 0);
    assert_int_equal(parsed.others, 7);
    assert_int_equal(parsed.seen.count, 2);
    assert_memory_equal(parsed.seen.logs, logs, sizeof logs);
    tree_seen_done(&parsed.seen);
    /* No digit may be another one, nor be missing. */
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t digit = text.data[i];
        text.data[i] = digit == '0' ? '1' : '0';
        const int err = tree_token_parse(buf_bytes(&text), &parsed);
        assert_true(err == -EINVAL || (i < 2 && err == -EPROTONOSUPPORT));
        text.data[i] = digit;
        assert_int_equal(tree_token_parse(BYTES(text.data, i), &parsed), -EINVAL);
    }
    /* Out of order, or of nothing. */
    struct tree_seen_log odd[] = {{{{2}}, 1}, {{{1}}, 1}};
    for (int i = 0; i < 2; i++) {
        const struct tree_token bad = {.seen = {odd, i == 0 ? 2 : 1}};
        odd[0].seq = i == 0 ? 1 : 0;
        buf_clear(&text);
        tree_token_format(&bad, &text);
        assert_int_equal(tree_token_parse(buf_bytes(&text), &parsed), -EINVAL);
    }
    CLEANUP_BUF struct buf large = BUF_INIT;
    memset(buf_extend(&large, TREE_TOKEN_CHARS_MAX + 2), '0', TREE_TOKEN_CHARS_MAX + 2);
    assert_int_equal(tree_token_parse(buf_bytes(&large), &parsed), -EFBIG);
    assert_int_equal(tree_token_parse(bytes_of_string("1:2"), &parsed), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_watcher_moves_in_the_middle),
        cmocka_unit_test(test_what_comes_later_was_seen),
        cmocka_unit_test(test_forgotten_ops_are_a_gap),
        cmocka_unit_test(test_positions_that_make_no_token),
        cmocka_unit_test(test_logs_known_by_their_sum),
        cmocka_unit_test(test_new_logs_in_another_order),
        cmocka_unit_test(test_a_part_of_a_log_known_by_its_sum),
        cmocka_unit_test(test_far_behind),
        cmocka_unit_test(test_random_moves),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
