/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "sim/pipe.h"

#define BYTES_COUNT UINT64_C(1000000)
#define RATE UINT64_C(10000000) /* 0.1 s for that */
#define DELAY_US UINT64_C(1000)

struct flow {
    uint64_t bytes;
    uint64_t left_us;
    uint64_t came_us;
    bool is_cut;
};

struct bench {
    struct sim_engine *engine;
    struct sim_pipes *pipes;
};

static void left(void *context, void *tag, bool is_whole)
{
    const struct bench *bench = context;
    struct flow *flow = tag;
    assert_int_equal(flow->left_us, 0);
    flow->left_us = sim_engine_now_us(bench->engine);
    flow->is_cut = !is_whole;
}

static void came(void *context, void *tag, uint64_t bytes_count, bool is_last)
{
    const struct bench *bench = context;
    struct flow *flow = tag;
    assert_int_equal(flow->came_us, 0);
    flow->bytes += bytes_count;
    flow->came_us = is_last ? sim_engine_now_us(bench->engine) : 0;
}

static void bench_open(struct bench *bench)
{
    bench->engine = sim_engine_new();
    const struct sim_pipes_options options = {
        .hosts_count = 4, .rate_bytes_per_s = RATE, .delay_us = DELAY_US, .seed = 1};
    const struct sim_pipes_host host = {.left = left, .came = came, .context = bench};
    bench->pipes = sim_pipes_new(bench->engine, &options, &host);
}

static void bench_close(struct bench *bench)
{
    sim_pipes_free(bench->pipes);
    sim_engine_free(bench->engine);
}

static void a_flow_takes_the_rate_of_the_link(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench);
    struct flow flow = {0};
    sim_pipes_send(bench.pipes, 0, 1, BYTES_COUNT, &flow);
    sim_engine_run_until(bench.engine, SIM_US_PER_S);
    assert_int_equal(flow.bytes, BYTES_COUNT);
    assert_in_range(flow.left_us, 100000, 101000);
    /* A piece is on its way while the next is sent; the delay comes on top. */
    assert_in_range(flow.came_us, 101000, 130000);
    bench_close(&bench);
}

static void flows_share_the_link_of_their_sender(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench);
    struct flow flows[3] = {0};
    for (uint32_t i = 0; i < 3; i++) {
        sim_pipes_send(bench.pipes, 0, 1 + i, BYTES_COUNT, &flows[i]);
    }
    sim_engine_run_until(bench.engine, SIM_US_PER_S);
    for (uint32_t i = 0; i < 3; i++) {
        assert_in_range(flows[i].came_us, 220000, 330000);
    }
    bench_close(&bench);
}

static void flows_share_the_link_of_their_receiver(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench);
    struct flow flows[4] = {0};
    for (uint32_t i = 0; i < 3; i++) {
        sim_pipes_send(bench.pipes, i, 3, BYTES_COUNT, &flows[i]);
    }
    /* Who sends to a crowded receiver serves another at the same time. */
    sim_pipes_send(bench.pipes, 0, 1, BYTES_COUNT, &flows[3]);
    sim_engine_run_until(bench.engine, SIM_US_PER_S);
    for (uint32_t i = 0; i < 3; i++) {
        assert_in_range(flows[i].came_us, 220000, 330000);
    }
    assert_in_range(flows[3].came_us, 101000, 230000);
    bench_close(&bench);
}

static void a_host_can_be_slower(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench);
    struct flow flow = {0};
    sim_pipes_set_rate(bench.pipes, 1, RATE / 2);
    sim_pipes_send(bench.pipes, 0, 1, BYTES_COUNT, &flow);
    sim_engine_run_until(bench.engine, SIM_US_PER_S);
    assert_in_range(flow.came_us, 200000, 260000);
    bench_close(&bench);
}

static void who_is_gone_or_frozen_takes_nothing(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench);
    struct flow flows[4] = {0};
    sim_pipes_send(bench.pipes, 0, 1, BYTES_COUNT, &flows[0]);
    sim_pipes_send(bench.pipes, 0, 2, BYTES_COUNT, &flows[1]);
    sim_pipes_send(bench.pipes, 1, 3, BYTES_COUNT, &flows[2]);
    sim_pipes_send(bench.pipes, 2, 3, BYTES_COUNT, &flows[3]);
    sim_engine_run_until(bench.engine, 50000);
    sim_pipes_kill(bench.pipes, 1);
    sim_pipes_freeze(bench.pipes, 2);
    assert_true(flows[0].is_cut);
    sim_engine_run_until(bench.engine, 2 * SIM_US_PER_S);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(flows[i].came_us, 0);
    }
    assert_int_equal(flows[1].left_us, 0);
    assert_int_equal(flows[2].left_us, 0);
    assert_int_equal(flows[3].left_us, 0);
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flow_takes_the_rate_of_the_link),
        cmocka_unit_test(flows_share_the_link_of_their_sender),
        cmocka_unit_test(flows_share_the_link_of_their_receiver),
        cmocka_unit_test(a_host_can_be_slower),
        cmocka_unit_test(who_is_gone_or_frozen_takes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
