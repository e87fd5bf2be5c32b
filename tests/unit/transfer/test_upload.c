/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/codec.h"
#include "base/mem.h"
#include "transfer/upload.h"

#define MS_US UINT64_C(1000)
#define BLOCK_BYTES 262144u
#define RATE UINT64_C(25) /* bytes a microsecond */

static struct node_id node_of(uint32_t index)
{
    struct node_id id = {0};
    codec_put_be64(id.bytes, (index + 1) * UINT64_C(0x9e3779b97f4a7c15));
    codec_put_be32(id.bytes + 16, index);
    return id;
}

static uint32_t index_of(const struct node_id *id)
{
    return codec_get_be32(id->bytes + 16);
}

struct given {
    struct node_id to[UPLOAD_GIVEN_TO_MAX];
    size_t count;
};

/* Request `number` of `peer` for block `block`. */
static enum upload_verdict ask(struct upload *upload, uint64_t now_us, uint32_t peer,
                               uint32_t number, uint32_t block, uint32_t bytes, bool insists,
                               struct given *given)
{
    struct upload_job job = {.peer = node_of(peer), .number = number, .size_bytes = bytes};
    codec_put_be32(job.block.bytes, block);
    struct given none;
    given = given ? given : &none;
    return upload_request(upload, now_us, &job, insists, given->to, &given->count);
}

static struct upload *new_upload(uint64_t rate_bytes_per_s)
{
    const struct upload_options options = {.random_seed = 1, .rate_bytes_per_s = rate_bytes_per_s};
    return upload_new(&options, 0);
}

static void what_is_asked_for_is_given_in_order(void **state)
{
    (void)state;
    struct upload *upload = new_upload(0);
    struct upload_job job;
    assert_false(upload_next(upload, 0, &job));
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(ask(upload, 0, 1, i, i, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    }
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(upload_next(upload, i * MS_US, &job));
        assert_int_equal(job.number, i);
        upload_done(upload, i * MS_US, &job, true);
    }
    assert_false(upload_next(upload, 9 * MS_US, &job));
    assert_int_equal(upload_counters(upload)->blocks_sent, 3);
    assert_int_equal(upload_counters(upload)->waiting_count, 0);
    assert_int_equal(upload_counters(upload)->receivers_count, 0);
    upload_free(upload);
}

static void too_much_is_refused(void **state)
{
    (void)state;
    struct upload *upload = new_upload(0);
    uint32_t taken = 0;
    for (uint32_t i = 0; i < 100; i++) {
        taken += ask(upload, 0, i % 20, i, i, BLOCK_BYTES, false, NULL) == UPLOAD_TAKEN;
    }
    assert_in_range(taken, UPLOAD_BLOCKS_MIN, UPLOAD_BLOCKS_MIN + 1);
    assert_int_equal(upload_counters(upload)->refused_busy, 100 - taken);

    /* Small ones are taken by the hundred. */
    struct upload *small = new_upload(0);
    taken = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        taken += ask(small, 0, 1, i, i, 4096, false, NULL) == UPLOAD_TAKEN;
    }
    assert_in_range(taken, 256, 400);
    upload_free(upload);
    upload_free(small);
}

static void a_block_given_lately_is_redirected(void **state)
{
    (void)state;
    struct upload *upload = new_upload(0);
    struct given given = {0};
    assert_int_equal(ask(upload, 0, 1, 1, 7, 1000, false, NULL), UPLOAD_TAKEN);
    assert_int_equal(ask(upload, 0, 2, 1, 8, 1000, false, NULL), UPLOAD_TAKEN);
    assert_int_equal(ask(upload, 0, 3, 1, 7, 1000, false, &given), UPLOAD_BUSY);
    assert_int_equal(given.count, 1);
    assert_int_equal(index_of(&given.to[0]), 1);
    assert_int_equal(upload_counters(upload)->refused_given, 1);
    /* Who has asked those in vain gets it, and so does who has lost it. */
    assert_int_equal(ask(upload, 0, 3, 2, 7, 1000, true, &given), UPLOAD_TAKEN);
    assert_int_equal(ask(upload, 0, 2, 2, 8, 1000, false, &given), UPLOAD_TAKEN);
    assert_int_equal(upload_counters(upload)->insisted, 1);
    upload_free(upload);
}

/* The last first copies have left; those who got them need a moment to pass them on. */
static void what_was_given_just_now_is_not_given_again(void **state)
{
    (void)state;
    struct upload *upload = new_upload(0);
    struct upload_job job;
    uint64_t now_us = 0;
    for (uint32_t block = 1; block <= 8; block++) {
        assert_int_equal(ask(upload, now_us, 1, block, block, BLOCK_BYTES, false, NULL),
                         UPLOAD_TAKEN);
        assert_true(upload_next(upload, now_us, &job));
        now_us += 40 * MS_US;
        upload_done(upload, now_us, &job, true);
    }
    now_us += 500 * MS_US; /* the first is 820 ms old, the last 540 */
    assert_int_equal(ask(upload, now_us, 2, 1, 1, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    assert_true(upload_next(upload, now_us, &job));
    now_us += 40 * MS_US;
    upload_done(upload, now_us, &job, true);
    assert_int_equal(ask(upload, now_us, 2, 2, 8, BLOCK_BYTES, false, NULL), UPLOAD_BUSY);
    now_us += 1000 * MS_US;
    assert_int_equal(ask(upload, now_us, 2, 3, 8, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    upload_free(upload);
}

static void without_other_work_it_is_given_again(void **state)
{
    (void)state;
    struct upload *upload = new_upload(0);
    struct upload_job job;
    assert_int_equal(ask(upload, 0, 1, 1, 7, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    assert_true(upload_next(upload, 0, &job));
    upload_done(upload, 10 * MS_US, &job, true);
    assert_int_equal(ask(upload, 10 * MS_US, 2, 1, 7, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    assert_int_equal(upload_counters(upload)->blocks_again, 1);

    /* After a while it counts as never given. */
    assert_int_equal(ask(upload, 11 * MS_US, 2, 2, 8, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    const uint64_t later_us = 20 * MS_US + UPLOAD_GIVEN_MS * MS_US;
    assert_int_equal(ask(upload, later_us, 3, 1, 7, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    upload_free(upload);
}

static void what_is_cancelled_was_not_given(void **state)
{
    (void)state;
    struct upload *upload = new_upload(0);
    struct upload_job job;
    assert_int_equal(ask(upload, 0, 1, 1, 7, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    assert_int_equal(ask(upload, 0, 1, 2, 8, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    assert_int_equal(ask(upload, 0, 2, 1, 9, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    const struct node_id one = node_of(1);
    assert_int_equal(upload_cancel(upload, 0, &one, 1), 1);
    assert_int_equal(upload_cancel(upload, 0, &one, 1), 0);
    assert_int_equal(ask(upload, 0, 3, 1, 7, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    upload_peer_lost(upload, 0, &one);
    uint32_t served = 0;
    while (upload_next(upload, served * MS_US, &job)) {
        assert_int_not_equal(index_of(&job.peer), 1);
        upload_done(upload, served * MS_US, &job, true);
        served++;
    }
    assert_int_equal(served, 2);
    upload_free(upload);
}

static void a_block_that_failed_was_not_given(void **state)
{
    (void)state;
    struct upload *upload = new_upload(0);
    struct upload_job job;
    assert_int_equal(ask(upload, 0, 1, 1, 7, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    assert_true(upload_next(upload, 0, &job));
    upload_done(upload, MS_US, &job, false);
    assert_int_equal(ask(upload, MS_US, 2, 1, 8, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    assert_int_equal(ask(upload, MS_US, 2, 2, 7, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    assert_int_equal(upload_counters(upload)->blocks_failed, 1);
    upload_free(upload);
}

/* A link of RATE for `ms`, and receivers that always want more; what each got. */
static void saturate(struct upload *upload, uint64_t ms, uint32_t receivers,
                     const uint32_t *block_bytes, uint64_t *ret_bytes)
{
    uint32_t next_block = 0;
    uint64_t now_us = 0;
    while (now_us < ms * MS_US) {
        for (uint32_t i = 0; i < 4 * receivers; i++) {
            next_block++;
            (void)ask(upload, now_us, i % receivers, next_block, next_block,
                      block_bytes[i % receivers], false, NULL);
        }
        struct upload_job job;
        if (!upload_next(upload, now_us, &job)) {
            now_us += MS_US;
            continue;
        }
        now_us += job.size_bytes / RATE;
        ret_bytes[index_of(&job.peer)] += job.size_bytes;
        upload_done(upload, now_us, &job, true);
    }
}

static void receivers_share_evenly(void **state)
{
    (void)state;
    struct upload *upload = new_upload(0);
    const uint32_t block_bytes[] = {BLOCK_BYTES, BLOCK_BYTES, BLOCK_BYTES, BLOCK_BYTES};
    uint64_t bytes[4] = {0};
    saturate(upload, 4000, 4, block_bytes, bytes);
    for (unsigned i = 0; i < 4; i++) {
        assert_in_range(bytes[i], 22000000, 28000000);
    }
    upload_free(upload);
}

static void small_blocks_are_not_crowded_out(void **state)
{
    (void)state;
    struct upload *upload = new_upload(0);
    const uint32_t block_bytes[] = {4 * 1024 * 1024, 65536};
    uint64_t bytes[2] = {0};
    struct upload_job job;
    uint64_t now_us = 0;
    uint32_t number = 0;
    while (now_us < 4000 * MS_US) {
        for (uint32_t i = 0; i < 20; i++) {
            number++;
            (void)ask(upload, now_us, i == 0 ? 0 : 1, number, number, block_bytes[i == 0 ? 0 : 1],
                      false, NULL);
        }
        assert_true(upload_next(upload, now_us, &job));
        now_us += job.size_bytes / RATE;
        bytes[index_of(&job.peer)] += job.size_bytes;
        upload_done(upload, now_us, &job, true);
    }
    assert_in_range(bytes[0], 40000000, 60000000);
    assert_in_range(bytes[1], 40000000, 60000000);
    upload_free(upload);
}

static void the_rate_is_kept(void **state)
{
    (void)state;
    struct upload *upload = new_upload(2500000);
    uint64_t now_us = 0;
    uint64_t sent = 0;
    uint32_t number = 0;
    while (now_us < 10000 * MS_US) {
        struct upload_job job;
        number++;
        (void)ask(upload, now_us, 1, number, number, BLOCK_BYTES, false, NULL);
        if (upload_next(upload, now_us, &job)) {
            sent += job.size_bytes;
            upload_done(upload, now_us, &job, true);
        } else {
            const uint64_t next_us = upload_next_us(upload);
            assert_true(next_us > now_us && next_us < now_us + 1000 * MS_US);
            now_us = next_us;
        }
    }
    assert_in_range(sent, 24000000, 26500000);
    upload_free(upload);
}

static void a_slow_receiver_does_not_hold_others_up(void **state)
{
    (void)state;
    struct upload *upload = new_upload(0);
    struct upload_job slow;
    struct upload_job job;
    /* The rate of the link becomes known. */
    assert_int_equal(ask(upload, 0, 1, 1, 1, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    assert_true(upload_next(upload, 0, &job));
    upload_done(upload, 10 * MS_US, &job, true);

    assert_int_equal(ask(upload, 10 * MS_US, 1, 2, 2, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    assert_int_equal(ask(upload, 10 * MS_US, 2, 1, 3, BLOCK_BYTES, false, NULL), UPLOAD_TAKEN);
    assert_true(upload_next(upload, 10 * MS_US, &slow));
    assert_false(upload_next(upload, 10 * MS_US, &job));
    const uint64_t next_us = upload_next_us(upload);
    assert_in_range(next_us, 15 * MS_US, 22 * MS_US);
    assert_true(upload_next(upload, next_us, &job));
    assert_int_equal(index_of(&job.peer), 2);
    upload_free(upload);
}

/* Sockets take the first blocks at once; then one leaves every 20 ms. */
static void what_leaves_at_once_is_not_the_rate(void **state)
{
    (void)state;
    struct upload *upload = new_upload(0);
    const uint64_t rate_bytes_per_ms = BLOCK_BYTES / 20;
    uint64_t now_us = 0;
    for (uint32_t block = 0; block < 25; block++) {
        struct upload_job job;
        assert_int_equal(ask(upload, now_us, 1, block, block, BLOCK_BYTES, false, NULL),
                         UPLOAD_TAKEN);
        assert_true(upload_next(upload, now_us, &job));
        now_us += block < 4 ? MS_US / 2 : 20 * MS_US;
        upload_done(upload, now_us, &job, true);
    }
    assert_in_range(upload_counters(upload)->rate_bytes_per_s, rate_bytes_per_ms * 1000,
                    rate_bytes_per_ms * 1500);
    /* A slower time changes it slowly. */
    for (uint32_t block = 30; block < 35; block++) {
        struct upload_job job;
        assert_int_equal(ask(upload, now_us, 1, block, block, BLOCK_BYTES, false, NULL),
                         UPLOAD_TAKEN);
        assert_true(upload_next(upload, now_us, &job));
        now_us += 40 * MS_US;
        upload_done(upload, now_us, &job, true);
    }
    assert_in_range(upload_counters(upload)->rate_bytes_per_s, rate_bytes_per_ms * 750,
                    rate_bytes_per_ms * 1400);
    upload_free(upload);
}

static void askers_are_named_to_each_other(void **state)
{
    (void)state;
    struct upload *upload = new_upload(0);
    const struct id file = {{1}};
    const struct id other = {{2}};
    struct node_id named[UPLOAD_ASKERS_NAMED];
    for (uint32_t i = 0; i < 10; i++) {
        const struct node_id node = node_of(i);
        assert_int_equal(upload_asked(upload, i, &file, &node, named), i);
        for (uint32_t j = 0; j < i; j++) {
            assert_true(index_of(&named[j]) < i);
        }
    }
    const struct node_id node = node_of(3);
    assert_int_equal(upload_asked(upload, 20, &file, &node, named), 9);
    assert_int_equal(upload_asked(upload, 20, &other, &node, named), 0);
    assert_int_equal(upload_asked(upload, 20, &file, NULL, named), 10);
    for (uint32_t i = 0; i < 1000; i++) {
        const struct node_id many = node_of(i);
        (void)upload_asked(upload, 30, &file, &many, named);
    }
    assert_int_equal(upload_asked(upload, 40, &file, NULL, named), UPLOAD_ASKERS_NAMED);
    const uint64_t later_us = 50 + UPLOAD_ASKER_MS * MS_US;
    assert_int_equal(upload_asked(upload, later_us, &file, NULL, named), 0);
    upload_free(upload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_asked_for_is_given_in_order),
        cmocka_unit_test(too_much_is_refused),
        cmocka_unit_test(a_block_given_lately_is_redirected),
        cmocka_unit_test(what_was_given_just_now_is_not_given_again),
        cmocka_unit_test(without_other_work_it_is_given_again),
        cmocka_unit_test(what_is_cancelled_was_not_given),
        cmocka_unit_test(a_block_that_failed_was_not_given),
        cmocka_unit_test(receivers_share_evenly),
        cmocka_unit_test(small_blocks_are_not_crowded_out),
        cmocka_unit_test(the_rate_is_kept),
        cmocka_unit_test(a_slow_receiver_does_not_hold_others_up),
        cmocka_unit_test(what_leaves_at_once_is_not_the_rate),
        cmocka_unit_test(askers_are_named_to_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
