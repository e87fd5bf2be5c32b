/* SPDX-License-Identifier: Apache-2.0 */

/* Files fetched among real nodes of this process. How blocks are chosen is tested with the
 * transfer's own, and what happens when nodes die in tests/integration. */

#include "real_nodes.h"

#include "base/random.h"
#include "node/blocks_priv.h"
#include "node/fetch.h"
#include "node/fetch_files_priv.h"
#include "store/hold.h"
#include "store/intake.h"
#include "store/put.h"
#include "store/read.h"

#define MIB ((size_t)1024 * 1024)

static struct fetch *fetch_of(const struct one *one)
{
    return network_fetch(one->network);
}

static uint8_t *content_of(size_t size, uint64_t seed)
{
    struct random random;
    random_init(&random, seed);
    uint8_t *content = mem_alloc(size + 8);
    for (size_t i = 0; i < size; i += 8) {
        const uint64_t word = random_u64(&random);
        memcpy(content + i, &word, 8);
    }
    return content;
}

static struct id put_file(const struct one *one, size_t size, uint64_t seed)
{
    uint8_t *content = content_of(size, seed);
    struct store_put *put = NULL;
    struct store_put_result result;
    assert_int_equal(store_put_begin(node_store(one->node), STORE_ORIGIN, &put), 0);
    assert_int_equal(store_put_write(put, BYTES(content, size)), 0);
    assert_int_equal(store_put_commit(put, &result), 0);
    free(content);
    return result.id;
}

static void assert_has_file(const struct one *one, const struct id *id, size_t size, uint64_t seed,
                            enum store_reason reason)
{
    struct store *store = node_store(one->node);
    struct file_metadata metadata = FILE_METADATA_INIT;
    struct store_file_info info;
    uint8_t *content = content_of(size, seed);
    assert_int_equal(store_file_info(store, id, &info), 0);
    assert_int_equal(info.holders[reason], 1);
    assert_int_equal(store_file_metadata(store, id, &metadata), 0);
    assert_int_equal(metadata.length_bytes, size);
    size_t at = 0;
    for (size_t i = 0; i < metadata.blocks_count; i++) {
        struct store_view view;
        assert_int_equal(store_view_open(store, &metadata.blocks[i].id, &view), 0);
        assert_memory_equal(view.bytes.data, content + at, view.bytes.size);
        at += view.bytes.size;
        store_view_close(&view);
    }
    assert_int_equal(at, size);
    file_metadata_done(&metadata);
    free(content);
}

struct fetched {
    struct waiting waiting;
    int err;
    size_t answers_count;
    struct locate_answer answers[8];
};

static void fetched(void *context, const struct fetch_result *result)
{
    struct fetched *fetched = context;
    fetched->err = result->err;
    fetched->answers_count = result->answers_count;
    for (size_t i = 0; i < result->answers_count && i < 8; i++) {
        fetched->answers[i] = result->answers[i];
    }
    answer(&fetched->waiting);
}

static struct fetched fetch_at(const struct one *one, const struct id *id, enum store_reason reason,
                               const struct node_id *publisher)
{
    struct fetched result = {.waiting = WAITING_INIT};
    const struct fetch_options options = {.file = *id, .publisher = publisher, .reason = reason};
    fetch_start(fetch_of(one), &options, fetched, &result);
    wait_for_answers(&result.waiting, 1);
    return result;
}

static void a_file_comes(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 4096, 256 * 1024, 256 * 1024 + 1, 5 * MIB + 77};
    struct one pair[2];
    open_pair(pair);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        const struct id id = put_file(&pair[0], sizes[i], i);
        const bool knows = i % 2 == 0;
        const struct fetched result =
            fetch_at(&pair[1], &id, STORE_FOLLOW, knows ? node_identity(pair[0].node) : NULL);
        assert_int_equal(result.err, 0);
        assert_has_file(&pair[1], &id, sizes[i], i, STORE_FOLLOW);
    }
    close_one(&pair[1]);
    close_one(&pair[0]);
}

static void what_is_here_already_is_held(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    const struct id id = put_file(&pair[0], 3 * MIB, 9);
    assert_int_equal(fetch_at(&pair[0], &id, STORE_COPY, NULL).err, 0);
    assert_has_file(&pair[0], &id, 3 * MIB, 9, STORE_COPY);
    assert_has_file(&pair[0], &id, 3 * MIB, 9, STORE_ORIGIN);
    assert_int_equal(fetch_at(&pair[0], &id, STORE_COPY, NULL).err, 0);
    assert_has_file(&pair[0], &id, 3 * MIB, 9, STORE_COPY);
    close_one(&pair[1]);
    close_one(&pair[0]);
}

static void what_nobody_has_is_not_found(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    const struct id nowhere = {{7}};
    const struct fetched denied = fetch_at(&pair[1], &nowhere, STORE_CACHE, NULL);
    assert_int_equal(denied.err, -ENOENT);
    assert_int_equal(denied.answers_count, 1);
    assert_int_equal(denied.answers[0].outcome, LOCATE_DENIED);
    network_leave_wait(pair[0].network, MEMBER_UNREACHABLE);
    close_one(&pair[0]);
    WAIT_FOR(alive_count(&pair[1]) == 1);
    const struct fetched unsure = fetch_at(&pair[1], &nowhere, STORE_CACHE, NULL);
    assert_int_equal(unsure.err, -EHOSTUNREACH);
    assert_int_equal(unsure.answers_count, 1);
    assert_int_equal(unsure.answers[0].outcome, LOCATE_UNREACHABLE);
    close_one(&pair[1]);
}

static void many_small_files_come(void **state)
{
    (void)state;
    enum { FILES = 1000 };
    struct one pair[2];
    open_pair(pair);
    static struct id ids[FILES];
    static struct fetched results[FILES];
    for (size_t i = 0; i < FILES; i++) {
        ids[i] = put_file(&pair[0], 1000 + i, 100 + i);
    }
    for (size_t i = 0; i < FILES; i++) {
        results[i] = (struct fetched){.waiting = WAITING_INIT};
        const struct fetch_options options = {
            .file = ids[i], .publisher = node_identity(pair[0].node), .reason = STORE_FOLLOW};
        fetch_start(fetch_of(&pair[1]), &options, fetched, &results[i]);
    }
    for (size_t i = 0; i < FILES; i++) {
        wait_for_answers(&results[i].waiting, 1);
        assert_int_equal(results[i].err, 0);
        assert_has_file(&pair[1], &ids[i], 1000 + i, 100 + i, STORE_FOLLOW);
    }
    close_one(&pair[1]);
    close_one(&pair[0]);
}

/* ---- readers -----------------------------------------------------------------------------------
 */

static void changed(void *context)
{
    struct waiting *waiting = context;
    pthread_mutex_lock(&waiting->lock);
    waiting->answers++;
    pthread_cond_signal(&waiting->came);
    pthread_mutex_unlock(&waiting->lock);
}

static void wait_for_change(struct waiting *waiting)
{
    pthread_mutex_lock(&waiting->lock);
    while (waiting->answers == 0) {
        pthread_cond_wait(&waiting->came, &waiting->lock);
    }
    waiting->answers = 0;
    pthread_mutex_unlock(&waiting->lock);
}

static struct fetch_reader *open_reader(const struct one *one, const struct id *id,
                                        struct waiting *waiting)
{
    struct fetch_reader *reader = NULL;
    const struct fetch_reader_options options = {
        .file = *id, .changed = changed, .context = waiting};
    assert_int_equal(fetch_reader_open(fetch_of(one), &options, &reader), 0);
    return reader;
}

static void a_reader_reads_while_it_comes(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    const size_t size = 9 * MIB + 5;
    const struct id id = put_file(&pair[0], size, 21);
    uint8_t *content = content_of(size, 21);
    struct waiting waiting = WAITING_INIT;
    struct fetch_reader *reader = open_reader(&pair[1], &id, &waiting);
    const struct file_metadata *metadata = NULL;
    while (fetch_reader_metadata(reader, &metadata) == -EAGAIN) {
        wait_for_change(&waiting);
    }
    assert_int_equal(fetch_reader_metadata(reader, &metadata), 0);
    assert_int_equal(metadata->length_bytes, size);
    size_t at = 0;
    for (uint32_t i = 0; i < metadata->blocks_count; i++) {
        fetch_reader_want(reader, i, 1);
        int err = 0;
        while ((err = fetch_reader_state(reader, i)) == -EAGAIN) {
            wait_for_change(&waiting);
        }
        assert_int_equal(err, 0);
        struct store_view view;
        assert_int_equal(store_view_open(node_store(pair[1].node), &metadata->blocks[i].id, &view),
                         0);
        assert_memory_equal(view.bytes.data, content + at, view.bytes.size);
        at += view.bytes.size;
        store_view_close(&view);
    }
    assert_int_equal(at, size);
    fetch_reader_close(reader);
    free(content);

    /* What is here is read at once, and nobody fetches it. */
    reader = open_reader(&pair[0], &id, &waiting);
    while (fetch_reader_metadata(reader, &metadata) == -EAGAIN) {
        wait_for_change(&waiting);
    }
    assert_int_equal(fetch_reader_state(reader, 3), 0);
    fetch_reader_close(reader);
    close_one(&pair[1]);
    close_one(&pair[0]);
}

static void a_reader_is_told_that_nobody_has_it(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    const struct id nowhere = {{8}};
    struct waiting waiting = WAITING_INIT;
    struct fetch_reader *reader = open_reader(&pair[1], &nowhere, &waiting);
    const struct file_metadata *metadata = NULL;
    int err = 0;
    while ((err = fetch_reader_metadata(reader, &metadata)) == -EAGAIN) {
        wait_for_change(&waiting);
    }
    assert_int_equal(err, -ENOENT);
    const struct locate_answer *answers = NULL;
    assert_int_equal(fetch_reader_answers(reader, &answers), 1);
    assert_true(node_id_equal(&answers[0].node, node_identity(pair[0].node)));
    fetch_reader_close(reader);
    close_one(&pair[1]);
    close_one(&pair[0]);
}

/* ---- ends --------------------------------------------------------------------------------------
 */

static bool is_listed(const struct one *one, const struct id *id)
{
    struct fetch_info infos[8];
    const struct fetch_list_options options = {.limit = ARRAY_SIZE(infos)};
    const size_t count = fetch_list(fetch_of(one), &options, infos);
    for (size_t i = 0; i < count; i++) {
        if (id_equal(&infos[i].file, id)) {
            return true;
        }
    }
    return false;
}

static void a_fetch_is_explained_after_its_end(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    const struct id id = put_file(&pair[0], 4 * MIB, 33);
    assert_int_equal(fetch_at(&pair[1], &id, STORE_CACHE, NULL).err, 0);
    assert_false(is_listed(&pair[1], &id));
    static struct fetch_explanation explanation;
    assert_int_equal(fetch_explain(fetch_of(&pair[1]), &id, &explanation), 0);
    assert_true(explanation.is_over);
    assert_int_equal(explanation.err, 0);
    assert_int_equal(explanation.sources_count, 1);
    assert_int_equal(explanation.sources[0].received_bytes, 4 * MIB);
    const struct id other = {{1}};
    assert_int_equal(fetch_explain(fetch_of(&pair[1]), &other, &explanation), -ENOENT);
    struct fetch_counters counters;
    fetch_read_counters(fetch_of(&pair[1]), &counters);
    assert_int_equal(counters.files_fetched, 1);
    close_one(&pair[1]);
    close_one(&pair[0]);
}

static void a_fetch_is_stopped(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    /* It can't end by itself: its only source is gone. */
    const struct id id = put_file(&pair[0], 64 * MIB, 3);
    struct fetched results[2] = {{.waiting = WAITING_INIT}, {.waiting = WAITING_INIT}};
    const struct fetch_options options = {.file = id, .reason = STORE_FOLLOW};
    fetch_start(fetch_of(&pair[1]), &options, fetched, &results[0]);
    fetch_start(fetch_of(&pair[1]), &options, fetched, &results[1]);
    fetch_stop(fetch_of(&pair[1]), &id);
    for (size_t i = 0; i < 2; i++) {
        wait_for_answers(&results[i].waiting, 1);
        assert_int_equal(results[i].err, -ECANCELED);
    }
    assert_false(is_listed(&pair[1], &id));
    close_one(&pair[1]);
    close_one(&pair[0]);
}

static void a_fetch_goes_on_after_a_restart(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    const size_t size = 24 * MIB;
    const struct id id = put_file(&pair[0], size, 5);
    struct fetched result = {.waiting = WAITING_INIT};
    const struct fetch_options options = {.file = id, .reason = STORE_FOLLOW};
    fetch_start(fetch_of(&pair[1]), &options, fetched, &result);
    struct fetch_info info;
    const struct fetch_list_options first = {.limit = 1};
    WAIT_FOR(result.waiting.answers > 0 ||
             (fetch_list(fetch_of(&pair[1]), &first, &info) == 1 && info.here_count > 0));
    stop_one(&pair[1]);
    wait_for_answers(&result.waiting, 1);
    assert_true(result.err == -ECANCELED || result.err == 0);
    start_one(&pair[1], NULL);
    struct store_file_info file;
    WAIT_FOR(store_file_info(node_store(pair[1].node), &id, &file) == 0 &&
             file.holders[STORE_FOLLOW] == 1);
    assert_has_file(&pair[1], &id, size, 5, STORE_FOLLOW);
    close_one(&pair[1]);
    close_one(&pair[0]);
}

static struct store_intake *begin_part(const struct one *one, const struct file_metadata *metadata,
                                       enum store_reason reason, size_t size, uint64_t seed,
                                       uint32_t blocks_count)
{
    struct store_intake *intake = NULL;
    uint8_t *content = content_of(size, seed);
    size_t at = 0;
    assert_int_equal(store_intake_open(node_store(one->node), metadata, reason, &intake), 0);
    for (uint32_t i = 0; i < blocks_count; i++) {
        const uint32_t block_size = metadata->blocks[i].size_bytes;
        assert_int_equal(store_intake_block(intake, i, BYTES(content + at, block_size)), 0);
        at += block_size;
    }
    free(content);
    return intake;
}

/* False: there is none. */
static bool find_intake(const struct one *one, struct store_intake_info *ret_info)
{
    return store_intake_next(node_store(one->node), NULL, ret_info) == 0;
}

static struct id put_with_list(const struct one *one, size_t size, uint64_t seed,
                               struct file_metadata *ret_metadata)
{
    const struct id id = put_file(one, size, seed);
    assert_int_equal(store_file_metadata(node_store(one->node), &id, ret_metadata), 0);
    return id;
}

struct standstill {
    atomic_bool is_reached;
    atomic_bool is_over;
};

static void stand_still(void *context, const struct fetch_result *result)
{
    (void)result;
    struct standstill *standstill = context;
    standstill->is_reached = true;
    while (!standstill->is_over) {
        usleep(1000);
    }
}

/* While the fetch thread has no time a peer tells of growth, and of long lists of blocks: what
 * waits of that is bounded. */
static void what_peers_tell_is_kept_within_bounds(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    struct fetch *fetch = fetch_of(&pair[1]);
    struct standstill standstill = {0};
    const struct id id = put_file(&pair[1], 1000, 1);
    const struct fetch_options options = {.file = id, .reason = STORE_CACHE};
    fetch_start(fetch, &options, stand_still, &standstill);
    WAIT_FOR(standstill.is_reached);
    const struct blocks_events events = fetch_blocks_events();
    const struct node_id *peer = node_identity(pair[0].node);
    static const uint32_t indices[TRANSFER_MORE_MAX];
    for (size_t i = 0; i < 4 * MIB / TRANSFER_MORE_MAX * 64; i++) {
        events.more(fetch, peer, &id, indices, TRANSFER_MORE_MAX);
    }
    assert_in_range(fetch->events_bytes, 16 * MIB, 64 * MIB);
    uint8_t *text = mem_alloc(16 * MIB);
    for (size_t i = 0; i < 8; i++) {
        struct blocks_offer offer = {.file = id, .metadata_text = BYTES(text, 16 * MIB)};
        events.offer(fetch, peer, &offer);
    }
    free(text);
    assert_in_range(fetch->events_bytes, 16 * MIB, 64 * MIB);
    standstill.is_over = true;
    WAIT_FOR(fetch->events_bytes == 0);
    close_one(&pair[1]);
    close_one(&pair[0]);
}

/* A part of a file is here and the rest nowhere: it is kept, and nobody goes on with it unasked. */
static void what_came_of_a_file_is_set_aside(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    const size_t size = 3 * MIB;
    struct file_metadata metadata = FILE_METADATA_INIT;
    struct store_intake_info info;
    struct fetch_counters counters;
    (void)put_with_list(&pair[0], size, 11, &metadata);
    struct id id;
    file_metadata_id(&metadata, &id);
    stop_one(&pair[0]);
    assert_int_equal(store_intake_close(begin_part(&pair[1], &metadata, STORE_COPY, size, 11, 4)),
                     0);
    assert_int_not_equal(fetch_at(&pair[1], &id, STORE_FOLLOW, NULL).err, 0);
    WAIT_FOR(find_intake(&pair[1], &info) && info.is_aside);
    fetch_read_counters(fetch_of(&pair[1]), &counters);
    assert_int_equal(counters.files_aside, 1);

    /* Not after a restart either. */
    stop_one(&pair[1]);
    start_one(&pair[1], NULL);
    WAIT_FOR((fetch_read_counters(fetch_of(&pair[1]), &counters), counters.files_aside) == 1);
    assert_false(is_listed(&pair[1], &id));
    assert_true(find_intake(&pair[1], &info));
    assert_true(info.is_aside);

    /* The content is published here: what was left ends when it is wanted, and is not held. */
    (void)put_file(&pair[1], size, 11);
    assert_int_equal(fetch_at(&pair[1], &id, STORE_CACHE, NULL).err, 0);
    assert_false(find_intake(&pair[1], &info));
    struct store_file_info file;
    assert_int_equal(store_file_info(node_store(pair[1].node), &id, &file), 0);
    assert_int_equal(file.holders[STORE_FOLLOW], 0);
    assert_int_equal(file.holders[STORE_COPY], 0);
    file_metadata_done(&metadata);
    close_one(&pair[1]);
    start_one(&pair[0], NULL);
    close_one(&pair[0]);
}

/* A fetch was under way when the node ended, and its file came some other way: it is held for the
 * reason of the fetch, once, and then nothing is left of that. */
static void a_fetch_whose_file_came_otherwise_ends(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    const size_t size = 3 * MIB;
    struct file_metadata metadata = FILE_METADATA_INIT;
    struct store_intake_info info;
    const struct id id = put_with_list(&pair[1], size, 12, &metadata);
    assert_int_equal(store_intake_close(begin_part(&pair[1], &metadata, STORE_FOLLOW, size, 12, 4)),
                     0);
    stop_one(&pair[1]);
    start_one(&pair[1], NULL);
    WAIT_FOR(!find_intake(&pair[1], &info));
    struct store_file_info file;
    WAIT_FOR(store_file_info(node_store(pair[1].node), &id, &file) == 0 &&
             file.holders[STORE_FOLLOW] == 1);
    assert_int_equal(store_release(node_store(pair[1].node), &id, STORE_FOLLOW), 0);
    stop_one(&pair[1]);
    start_one(&pair[1], NULL);
    assert_int_equal(store_file_info(node_store(pair[1].node), &id, &file), 0);
    assert_int_equal(file.holders[STORE_FOLLOW], 0);
    file_metadata_done(&metadata);
    close_one(&pair[1]);
    close_one(&pair[0]);
}

int main(void)
{
    log_set_level(LOG_OFF);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_comes),
        cmocka_unit_test(what_is_here_already_is_held),
        cmocka_unit_test(what_nobody_has_is_not_found),
        cmocka_unit_test(many_small_files_come),
        cmocka_unit_test(a_reader_reads_while_it_comes),
        cmocka_unit_test(a_reader_is_told_that_nobody_has_it),
        cmocka_unit_test(a_fetch_is_explained_after_its_end),
        cmocka_unit_test(a_fetch_is_stopped),
        cmocka_unit_test(a_fetch_goes_on_after_a_restart),
        cmocka_unit_test(what_peers_tell_is_kept_within_bounds),
        cmocka_unit_test(what_came_of_a_file_is_set_aside),
        cmocka_unit_test(a_fetch_whose_file_came_otherwise_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
