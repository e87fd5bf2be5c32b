/* SPDX-License-Identifier: Apache-2.0 */
#include "blocks_helpers.h"

#define ALL_FLAGS (TRANSFER_ASK_METADATA | TRANSFER_ASK_GROWTH | TRANSFER_ASK_FETCHING)

/* Two nodes; the second has `file` whole. */
static void make_two(struct world *world, struct blocks_options options, struct coming *ret_file,
                     size_t size)
{
    world_add(world, options);
    struct side *source = world_add(world, (struct blocks_options){0});
    make_coming(ret_file, 7, size);
    const struct store_put_result put =
        put_bytes(source->scratch->store, STORE_ORIGIN, BYTES(ret_file->data, size));
    assert_true(id_equal(&put.id, &ret_file->id));
}

static void a_whole_file_is_offered_and_its_blocks_come(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_two(world, (struct blocks_options){0}, &file, SIZE);
    struct side *to = &world->sides[0];
    struct side *from = &world->sides[1];

    ask(to, from, 5, TRANSFER_ASK_METADATA, &file.id);
    WAIT_FOR(to->seen->offers_count == 1);
    const struct offer_seen *offer = &to->seen->offers[0];
    assert_int_equal(offer->number, 5);
    assert_true(id_equal(&offer->file, &file.id));
    assert_true(node_id_equal(&offer->peer, &from->node->id));
    assert_int_equal(offer->state, TRANSFER_COMPLETE);
    struct id id;
    sha256_id(buf_bytes(&offer->text), &id);
    assert_true(id_equal(&id, &file.id));

    to->seen->to = open_intake(to->scratch->store, &file, STORE_CACHE);
    /* A source that is busy is asked again, so each block has requests of its own. */
    bool has_ended[BLOCKS] = {false};
    size_t asked = 0;
    for (uint32_t number = 0; to->seen->ends_count < BLOCKS; number++) {
        assert_true(number < BLOCKS * 1000);
        if (!has_ended[number % BLOCKS]) {
            request(to, from, number, true, &file, number % BLOCKS, number % BLOCKS + 1);
            asked++;
            WAIT_FOR(to->seen->ends_count + to->seen->refusals_count == asked);
            has_ended[number % BLOCKS] = to->seen->ends_count > 0 &&
                                         to->seen->ends[to->seen->ends_count - 1].number == number;
        }
    }
    assert_int_equal(to->seen->wrong_count, 0);
    for (size_t i = 0; i < BLOCKS; i++) {
        const struct end_seen *end = &to->seen->ends[i];
        assert_int_equal(end->err, 0);
        assert_int_equal(end->position, 0);
        assert_int_equal(end->size_bytes, file.metadata.blocks[end->number % BLOCKS].size_bytes);
    }
    assert_in_range(to->seen->received_bytes, SIZE - 64 * KIB, SIZE);
    assert_ok(store_intake_commit(to->seen->to));
    to->seen->to = NULL;
    assert_content(to->scratch->store, &file.id, BYTES(file.data, file.size));
    assert_int_equal(counters_of(to).received_bytes, SIZE);
    assert_int_equal(counters_of(from).sent_blocks, BLOCKS);
    WAIT_FOR(counters_of(to).gather_bytes == 0);
    assert_int_equal(to->seen->lost_count, 0);
}

static void without_the_flag_no_metadata_is_sent(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_two(world, (struct blocks_options){0}, &file, SIZE);
    ask(&world->sides[0], &world->sides[1], 5, 0, &file.id);
    WAIT_FOR(world->sides[0].seen->offers_count == 1);
    assert_int_equal(world->sides[0].seen->offers[0].state, TRANSFER_COMPLETE);
    assert_int_equal(world->sides[0].seen->offers[0].text.size, 0);
}

static void what_is_not_here_is_denied(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    CLEANUP_COMING struct coming other;
    make_two(world, (struct blocks_options){0}, &file, SIZE);
    make_coming(&other, 8, SIZE);
    struct side *to = &world->sides[0];
    ask(to, &world->sides[1], 5, ALL_FLAGS, &other.id);
    request(to, &world->sides[1], 6, false, &other, 2, 4);
    WAIT_FOR(to->seen->offers_count == 1 && to->seen->refusals_count == 2);
    assert_int_equal(to->seen->offers[0].state, TRANSFER_NONE);
    assert_int_equal(to->seen->offers[0].text.size, 0);
    for (uint16_t i = 0; i < 2; i++) {
        assert_int_equal(to->seen->refusals[i].number, 6);
        assert_int_equal(to->seen->refusals[i].position, i);
        assert_int_equal(to->seen->refusals[i].why, TRANSFER_REFUSED_NOT_HERE);
    }
}

static void a_part_of_a_file_is_offered_with_its_growth(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_coming(&file, 7, SIZE);
    struct side *to = world_add(world, (struct blocks_options){0});
    struct side *from = world_add(world, (struct blocks_options){0});
    from->seen->to = open_intake(from->scratch->store, &file, STORE_CACHE);
    give(from->seen->to, &file, 1, 3);
    give(from->seen->to, &file, 9, 10);

    ask(to, from, 5, ALL_FLAGS, &file.id);
    WAIT_FOR(to->seen->offers_count == 1);
    const struct offer_seen *offer = &to->seen->offers[0];
    assert_int_equal(offer->state, TRANSFER_PARTIAL);
    assert_int_equal(offer->have.size, 2);
    assert_int_equal(offer->have.data[0], 1 << 1 | 1 << 2);
    assert_int_equal(offer->have.data[1], 1 << (9 % 8));
    struct id id;
    sha256_id(buf_bytes(&offer->text), &id);
    assert_true(id_equal(&id, &file.id));

    give(from->seen->to, &file, 4, 6);
    blocks_came(from->blocks, &file.id, 4);
    blocks_came(from->blocks, &file.id, 5);
    WAIT_FOR(to->seen->more_count == 2);
    assert_int_equal(to->seen->more[0] + to->seen->more[1], 9);
    request(to, from, 6, false, &file, 4, 6);
    WAIT_FOR(to->seen->ends_count == 2);
    assert_int_equal(to->seen->wrong_count, 0);

    /* A later question is answered with all of it. */
    ask(to, from, 7, TRANSFER_ASK_GROWTH, &file.id);
    WAIT_FOR(to->seen->offers_count == 2);
    assert_int_equal(to->seen->offers[1].have.data[0], 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5);

    /* As long as somebody follows it nobody has to look for each block, whoever asks. */
    struct side *other = world_add(world, (struct blocks_options){0});
    blocks_came(from->blocks, &file.id, 7);
    ask(other, from, 1, 0, &file.id);
    WAIT_FOR(other->seen->offers_count == 1);
    assert_int_equal(other->seen->offers[0].have.data[0],
                     1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 7);
}

static void growth_is_told_to_all_who_want_it_until_they_stop(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_coming(&file, 7, SIZE);
    struct side *first = world_add(world, (struct blocks_options){0});
    struct side *second = world_add(world, (struct blocks_options){0});
    struct side *from = world_add(world, (struct blocks_options){0});
    from->seen->to = open_intake(from->scratch->store, &file, STORE_CACHE);
    ask(first, from, 1, TRANSFER_ASK_GROWTH, &file.id);
    ask(second, from, 1, TRANSFER_ASK_GROWTH, &file.id);
    WAIT_FOR(first->seen->offers_count == 1 && second->seen->offers_count == 1);
    blocks_came(from->blocks, &file.id, 3);
    WAIT_FOR(first->seen->more_count == 1 && second->seen->more_count == 1);

    blocks_stop_growth(first->blocks, &from->node->id, &file.id);
    blocks_flush(first->blocks);
    ask(first, from, 2, 0, &file.id); /* its answer comes after the stop was heard */
    WAIT_FOR(first->seen->offers_count == 2);
    blocks_came(from->blocks, &file.id, 4);
    WAIT_FOR(second->seen->more_count == 2);
    ask(first, from, 3, 0, &file.id);
    WAIT_FOR(first->seen->offers_count == 3);
    assert_int_equal(first->seen->more_count, 1);
}

/* They are told in turns; none is passed over. */
static void growth_is_told_to_many(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_coming(&file, 7, SIZE);
    struct side *many[20];
    for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
        many[i] = world_add(world, (struct blocks_options){0});
    }
    struct side *from = world_add(world, (struct blocks_options){0});
    from->seen->to = open_intake(from->scratch->store, &file, STORE_CACHE);
    for (uint32_t i = 0; i < ARRAY_SIZE(many); i++) {
        ask(many[i], from, i, TRANSFER_ASK_GROWTH, &file.id);
        WAIT_FOR(many[i]->seen->offers_count == 1);
    }
    for (uint32_t index = 2; index < 6; index++) {
        blocks_came(from->blocks, &file.id, index);
        WAIT_FOR(many[index]->seen->more_count == index - 1);
    }
    for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
        WAIT_FOR(many[i]->seen->more_count >= 4);
        assert_int_equal(many[i]->seen->more_count, 4);
        for (uint32_t at = 0; at < 4; at++) {
            assert_int_equal(many[i]->seen->more[at], at + 2);
        }
    }
}

/* The file was dropped here, and is fetched again with what is left of it. */
static void growth_of_what_was_dropped_is_told_again(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_coming(&file, 7, SIZE);
    struct side *to = world_add(world, (struct blocks_options){0});
    struct side *later = world_add(world, (struct blocks_options){0});
    struct side *from = world_add(world, (struct blocks_options){0});
    from->seen->to = open_intake(from->scratch->store, &file, STORE_CACHE);
    ask(to, from, 1, TRANSFER_ASK_GROWTH, &file.id);
    WAIT_FOR(to->seen->offers_count == 1);
    for (uint32_t i = 0; i < 4; i++) {
        blocks_came(from->blocks, &file.id, i);
    }
    WAIT_FOR(to->seen->more_count == 4);
    const uint8_t left[] = {1 << 1, 0};
    blocks_set_have(from->blocks, &file.id, BYTES(left, sizeof left));
    ask(later, from, 1, TRANSFER_ASK_GROWTH, &file.id);
    WAIT_FOR(later->seen->offers_count == 1);
    assert_memory_equal(later->seen->offers[0].have.data, left, sizeof left);
    blocks_came(from->blocks, &file.id, 1);
    blocks_came(from->blocks, &file.id, 3);
    WAIT_FOR(to->seen->more_count == 5 && later->seen->more_count == 1);
    assert_int_equal(to->seen->more[4], 3);
    assert_int_equal(later->seen->more[0], 3);
}

static void growth_of_a_file_that_begins_later_is_told(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_coming(&file, 7, SIZE);
    struct side *to = world_add(world, (struct blocks_options){0});
    struct side *from = world_add(world, (struct blocks_options){0});
    ask(to, from, 1, TRANSFER_ASK_GROWTH, &file.id);
    WAIT_FOR(to->seen->offers_count == 1);
    assert_int_equal(to->seen->offers[0].state, TRANSFER_NONE);
    blocks_came(from->blocks, &file.id, 8);
    WAIT_FOR(to->seen->more_count == 1);
    assert_int_equal(to->seen->more[0], 8);
}

static void who_fetches_is_named_to_the_next_and_told_of(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_two(world, (struct blocks_options){0}, &file, SIZE);
    struct side *third = world_add(world, (struct blocks_options){0});
    struct side *from = &world->sides[1];
    ask(&world->sides[0], from, 1, TRANSFER_ASK_FETCHING, &file.id);
    WAIT_FOR(world->sides[0].seen->offers_count == 1);
    WAIT_FOR(from->seen->asked_count == 1);
    assert_true(id_equal(&from->seen->asked[0], &file.id));
    assert_int_equal(world->sides[0].seen->offers[0].others_count, 0);
    ask(third, from, 1, 0, &file.id);
    WAIT_FOR(third->seen->offers_count == 1);
    assert_int_equal(third->seen->offers[0].others_count, 1);
    assert_true(node_id_equal(&third->seen->offers[0].others[0], &world->sides[0].node->id));
    assert_int_equal(from->seen->asked_count, 1); /* it only looks */
}

/* Enough requests that the source says busy, and names who got the block. */
static void a_busy_source_names_others(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_two(world, (struct blocks_options){0}, &file, 60 * BLOCK);
    struct side *from = &world->sides[1];
    struct side *third = world_add(world, (struct blocks_options){0});
    struct side *first = &world->sides[0];
    request(first, from, 1, false, &file, 0, 1);
    WAIT_FOR(first->seen->ends_count == 1);
    blocks_limit_upload(from->blocks, 100000); /* what follows waits */
    /* How much it takes depends on how fast the first one left, but is bounded. */
    for (uint32_t number = 2; first->seen->refusals_count == 0; number++) {
        assert_true(number < 60);
        request(first, from, number, false, &file, 1, 60);
        ask(first, from, number, 0, &file.id); /* its answer comes after the refusals */
        WAIT_FOR(first->seen->offers_count == number - 1);
    }
    assert_int_equal(first->seen->refusals[0].why, TRANSFER_REFUSED_BUSY);
    request(third, from, 1, false, &file, 0, 1);
    WAIT_FOR(third->seen->refusals_count == 1);
    assert_int_equal(third->seen->refusals[0].why, TRANSFER_REFUSED_BUSY);
    assert_int_equal(third->seen->refusals[0].others_count, 1);
    assert_true(node_id_equal(&third->seen->refusals[0].others[0], &first->node->id));
}

static void what_deliver_says_is_told(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_two(world, (struct blocks_options){0}, &file, SIZE);
    struct side *to = &world->sides[0];
    to->seen->deliver_err = -ENOSPC;
    request(to, &world->sides[1], 6, true, &file, 0, 3);
    WAIT_FOR(to->seen->ends_count == 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(to->seen->ends[i].err, -ENOSPC);
    }
}

static void small_blocks_come_many_to_a_request(void **state)
{
    struct world *world = *state;
    struct side *to = world_add(world, (struct blocks_options){0});
    struct side *from = world_add(world, (struct blocks_options){0});
    struct transfer_part parts[TRANSFER_REQUEST_BLOCKS_MAX];
    for (uint32_t i = 0; i < TRANSFER_REQUEST_BLOCKS_MAX; i++) {
        const uint32_t size = 1 + i * 100;
        CLEANUP_FREE uint8_t *data = make_content(1000 + i, size);
        put_bytes(from->scratch->store, STORE_ORIGIN, BYTES(data, size));
        parts[i] = (struct transfer_part){
            .id = block_id(BYTES(data, size)), .index = 0, .size_bytes = size};
    }
    const struct id file = {{1}};
    size_t asked = 0;
    /* Who is busy is asked again. */
    for (uint32_t number = 1; to->seen->ends_count < TRANSFER_REQUEST_BLOCKS_MAX; number++) {
        assert_true(number < 1000);
        blocks_request(to->blocks, &from->node->id, number, true, &file, parts,
                       TRANSFER_REQUEST_BLOCKS_MAX);
        blocks_flush(to->blocks);
        asked += TRANSFER_REQUEST_BLOCKS_MAX;
        WAIT_FOR(to->seen->ends_count + to->seen->refusals_count == asked);
    }
    assert_int_equal(to->seen->wrong_count, 0);
    assert_int_equal(to->seen->lost_count, 0);
}

static void trains_of_questions_are_all_answered(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_two(world, (struct blocks_options){0}, &file, SIZE);
    struct side *to = &world->sides[0];
    for (uint32_t i = 0; i < EVENTS_MAX; i++) {
        blocks_ask(to->blocks, &world->sides[1].node->id, i, TRANSFER_ASK_METADATA, &file.id);
    }
    blocks_flush(to->blocks);
    WAIT_FOR(to->seen->offers_count == EVENTS_MAX);
    for (uint32_t i = 0; i < EVENTS_MAX; i++) {
        assert_int_equal(to->seen->offers[i].number, i);
        assert_int_equal(to->seen->offers[i].state, TRANSFER_COMPLETE);
    }
}

/* Blocks wait at the source while the receiver has no room. */
static void what_is_gathered_is_bounded(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_two(world, (struct blocks_options){.gather_bytes_max = 3 * BLOCK}, &file, 40 * BLOCK);
    struct side *to = &world->sides[0];
    struct side *from = &world->sides[1];
    to->seen->is_slow = true;
    size_t asked = 0;
    uint32_t number = 1;
    for (; number <= 40; number++) {
        request(to, from, number, true, &file, number - 1, number);
        asked++;
    }
    WAIT_FOR(to->seen->waiting_count == 2);
    /* What was not refused is on its way; no more than the window of it is here. */
    WAIT_FOR(counters_of(from).sent_blocks > 4);
    assert_true(counters_of(to).gather_bytes <= 3 * BLOCK);
    to->seen->is_slow = false;
    WAIT_FOR(to->seen->ends_count + to->seen->refusals_count == asked);
    assert_int_equal(to->seen->wrong_count, 0);
    assert_true(to->seen->ends_count > 4);
    WAIT_FOR(counters_of(to).gather_bytes == 0);
}

static void what_is_canceled_does_not_come(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_two(world, (struct blocks_options){0}, &file, 8 * BLOCK);
    struct side *to = &world->sides[0];
    struct side *from = &world->sides[1];
    blocks_limit_upload(from->blocks, 1000000);
    request(to, from, 1, true, &file, 0, 1);
    request(to, from, 2, true, &file, 1, 6);
    WAIT_FOR(counters_of(from).upload_queued > 0);
    blocks_cancel(to->blocks, &from->node->id, 2);
    blocks_flush(to->blocks);
    WAIT_FOR(counters_of(from).upload_queued == 0);
    blocks_limit_upload(from->blocks, 0);
    request(to, from, 3, true, &file, 7, 8);
    WAIT_FOR(to->seen->ends_count + to->seen->refusals_count >= 2);
    for (size_t i = 0; i < to->seen->ends_count; i++) {
        assert_int_not_equal(to->seen->ends[i].number, 2);
    }
    assert_int_equal(to->seen->lost_count, 0);
}

static void who_is_not_known_is_lost(void **state)
{
    struct world *world = *state;
    struct side *to = world_add(world, (struct blocks_options){0});
    const struct node_id nobody = test_id(NEVER_ADDRESS);
    const struct id file = {{1}};
    blocks_ask(to->blocks, &nobody, 1, 0, &file);
    blocks_flush(to->blocks);
    WAIT_FOR(to->seen->lost_count == 1);
    assert_int_equal(to->seen->lost_why, BLOCKS_LOST);
    WAIT_FOR(counters_of(to).sources == 0);
}

static void a_source_that_goes_is_lost_and_found_again(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_two(world, (struct blocks_options){0}, &file, SIZE);
    struct side *to = &world->sides[0];
    struct side *from = &world->sides[1];
    blocks_limit_upload(from->blocks, 1000);
    request(to, from, 1, true, &file, 0, 5);
    WAIT_FOR(counters_of(from).upload_queued > 0);
    link_disconnect(from->node->link, &to->node->id);
    WAIT_FOR(to->seen->lost_count == 1);
    WAIT_FOR(counters_of(from).upload_queued == 0);
    blocks_limit_upload(from->blocks, 0);
    const size_t ends_before = to->seen->ends_count;
    ask(to, from, 2, 0, &file.id);
    request(to, from, 3, true, &file, 1, 2);
    WAIT_FOR(to->seen->offers_count == 1 &&
             to->seen->ends_count + to->seen->refusals_count > ends_before);
    assert_int_equal(to->seen->lost_count, 1);
}

static void a_source_that_stops_has_ended(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_two(world, (struct blocks_options){0}, &file, SIZE);
    struct side *to = &world->sides[0];
    ask(to, &world->sides[1], 1, TRANSFER_ASK_GROWTH, &file.id);
    WAIT_FOR(to->seen->offers_count == 1);
    side_stop(&world->sides[1]);
    WAIT_FOR(to->seen->lost_count == 1);
    assert_int_equal(counters_of(to).sources, 0);
}

static void an_idle_stream_goes_without_a_word(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_two(world, (struct blocks_options){.idle_ms = 50}, &file, SIZE);
    struct side *to = &world->sides[0];
    ask(to, &world->sides[1], 1, 0, &file.id);
    WAIT_FOR(to->seen->offers_count == 1);
    WAIT_FOR(counters_of(to).sources == 0);
    WAIT_FOR(counters_of(&world->sides[1]).receivers == 0);
    assert_int_equal(to->seen->lost_count, 0);
    ask(to, &world->sides[1], 2, 0, &file.id);
    WAIT_FOR(to->seen->offers_count == 2);
}

static void who_wants_growth_is_not_idle(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_coming(&file, 7, SIZE);
    struct side *to = world_add(world, (struct blocks_options){.idle_ms = 20});
    struct side *from = world_add(world, (struct blocks_options){0});
    ask(to, from, 1, TRANSFER_ASK_GROWTH, &file.id);
    WAIT_FOR(to->seen->offers_count == 1);
    /* Another stream comes and goes meanwhile. */
    struct side *third = world_add(world, (struct blocks_options){0});
    ask(to, third, 1, 0, &file.id);
    WAIT_FOR(counters_of(third).receivers == 1 || to->seen->offers_count == 2);
    WAIT_FOR(counters_of(to).sources == 1);
    blocks_came(from->blocks, &file.id, 0);
    WAIT_FOR(to->seen->more_count == 1);
}

static void growth_of_what_is_whole_keeps_no_stream(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_two(world, (struct blocks_options){.idle_ms = 50}, &file, SIZE);
    struct side *to = &world->sides[0];
    ask(to, &world->sides[1], 1, TRANSFER_ASK_GROWTH, &file.id);
    WAIT_FOR(to->seen->offers_count == 1);
    WAIT_FOR(counters_of(to).sources == 0);
    WAIT_FOR(counters_of(&world->sides[1]).receivers == 0);
}

static void a_dropped_source_says_nothing_more(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_two(world, (struct blocks_options){0}, &file, SIZE);
    struct side *to = &world->sides[0];
    ask(to, &world->sides[1], 1, TRANSFER_ASK_GROWTH, &file.id);
    WAIT_FOR(to->seen->offers_count == 1);
    blocks_drop(to->blocks, &world->sides[1].node->id);
    assert_int_equal(counters_of(to).sources, 0);
    WAIT_FOR(counters_of(&world->sides[1]).receivers == 0);
    assert_int_equal(to->seen->lost_count, 0);
}

/* Where the bytes of the block lie in the segments. */
static void damage_block(struct side *side, const struct coming *file, uint32_t index)
{
    char path[160];
    snprintf(path, sizeof path, "%s/segments", side->scratch->store_path);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    const struct bytes block = block_of(file, index);
    bool is_done = false;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        CLEANUP_FD int fd = openat(dirfd(dir), entry->d_name, O_RDWR | O_CLOEXEC);
        CLEANUP_FREE uint8_t *data = mem_alloc(4 * MIB);
        const ssize_t got = fd >= 0 ? pread(fd, data, 4 * MIB, 0) : -1;
        const uint8_t *at = got > 0 ? memmem(data, (size_t)got, block.data, 64) : NULL;
        if (at) {
            assert_int_equal(pwrite(fd, "damaged!", 8, at - data + 1000), 8);
            is_done = true;
        }
    }
    closedir(dir);
    assert_true(is_done);
}

static void a_damaged_block_is_refused(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_two(world, (struct blocks_options){0}, &file, SIZE);
    struct side *to = &world->sides[0];
    damage_block(&world->sides[1], &file, 3);
    request(to, &world->sides[1], 1, true, &file, 2, 5);
    WAIT_FOR(to->seen->ends_count == 2 && to->seen->refusals_count == 1);
    assert_int_equal(to->seen->refusals[0].position, 1);
    assert_int_equal(to->seen->refusals[0].why, TRANSFER_REFUSED_BAD);
    assert_int_equal(to->seen->wrong_count, 0);
}

static void nothing_is_called_after_the_stop(void **state)
{
    struct world *world = *state;
    CLEANUP_COMING struct coming file;
    make_two(world, (struct blocks_options){0}, &file, 40 * BLOCK);
    struct side *to = &world->sides[0];
    for (uint32_t i = 0; i < 40; i++) {
        request(to, &world->sides[1], i, true, &file, i, i + 1);
    }
    WAIT_FOR(to->seen->ends_count > 0);
    blocks_stop(to->blocks);
    const size_t ends = to->seen->ends_count;
    const size_t delivered = to->seen->delivered_count;
    request(to, &world->sides[1], 100, true, &file, 0, 1);
    test_node_free(to->node);
    to->node = NULL;
    assert_int_equal(to->seen->ends_count, ends);
    assert_int_equal(to->seen->delivered_count, delivered);
    assert_int_equal(to->seen->lost_count, 0);
    blocks_free(to->blocks);
    to->blocks = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(a_whole_file_is_offered_and_its_blocks_come),
        WORLD_TEST(without_the_flag_no_metadata_is_sent),
        WORLD_TEST(what_is_not_here_is_denied),
        WORLD_TEST(a_part_of_a_file_is_offered_with_its_growth),
        WORLD_TEST(growth_is_told_to_all_who_want_it_until_they_stop),
        WORLD_TEST(growth_is_told_to_many),
        WORLD_TEST(growth_of_a_file_that_begins_later_is_told),
        WORLD_TEST(growth_of_what_was_dropped_is_told_again),
        WORLD_TEST(who_fetches_is_named_to_the_next_and_told_of),
        WORLD_TEST(a_busy_source_names_others),
        WORLD_TEST(what_deliver_says_is_told),
        WORLD_TEST(small_blocks_come_many_to_a_request),
        WORLD_TEST(trains_of_questions_are_all_answered),
        WORLD_TEST(what_is_gathered_is_bounded),
        WORLD_TEST(what_is_canceled_does_not_come),
        WORLD_TEST(who_is_not_known_is_lost),
        WORLD_TEST(a_source_that_goes_is_lost_and_found_again),
        WORLD_TEST(a_source_that_stops_has_ended),
        WORLD_TEST(an_idle_stream_goes_without_a_word),
        WORLD_TEST(who_wants_growth_is_not_idle),
        WORLD_TEST(growth_of_what_is_whole_keeps_no_stream),
        WORLD_TEST(a_dropped_source_says_nothing_more),
        WORLD_TEST(a_damaged_block_is_refused),
        WORLD_TEST(nothing_is_called_after_the_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
