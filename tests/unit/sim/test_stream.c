/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "sim/stream.h"

#define HOSTS 4u
#define TAKEN_MAX 64u
#define BYTES_MANY 100000u

struct scene {
    struct sim_engine *engine;
    struct sim_network *network;
    struct sim_streams *streams;
    uint32_t lives[HOSTS];
    enum sim_stream_answer answers[HOSTS];
    size_t taken_count;
    struct {
        uint32_t from;
        uint32_t to;
        uint8_t first;
        uint64_t at_us;
    } taken[TAKEN_MAX];
};

static enum sim_stream_answer deliver(void *context, uint32_t from, uint32_t to,
                                      struct bytes message, uint64_t wire_bytes)
{
    struct scene *scene = context;
    (void)wire_bytes;
    if (scene->answers[to] == SIM_STREAM_TAKEN) {
        assert_true(scene->taken_count < TAKEN_MAX);
        scene->taken[scene->taken_count].from = from;
        scene->taken[scene->taken_count].to = to;
        scene->taken[scene->taken_count].first = message.data[0];
        scene->taken[scene->taken_count++].at_us = sim_engine_now_us(scene->engine);
    }
    return scene->answers[to];
}

static uint32_t life(void *context, uint32_t host)
{
    const struct scene *scene = context;
    return scene->lives[host];
}

static int set_up(void **state)
{
    struct scene *scene = mem_alloc(sizeof *scene);
    const struct sim_network_options options = {.hosts_max = HOSTS, .seed = 5};
    const struct sim_streams_host host = {.deliver = deliver, .life = life, .context = scene};
    scene->engine = sim_engine_new();
    scene->network = sim_network_new(&options);
    scene->streams = sim_streams_new(scene->engine, scene->network, &host);
    for (size_t i = 0; i < HOSTS; i++) {
        scene->lives[i] = 1;
        scene->answers[i] = SIM_STREAM_TAKEN;
    }
    *state = scene;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *scene = *state;
    sim_streams_free(scene->streams);
    sim_network_free(scene->network);
    sim_engine_free(scene->engine);
    free(scene);
    return 0;
}

static void send(struct scene *scene, uint32_t from, uint32_t to, uint8_t first, size_t size_bytes)
{
    CLEANUP_FREE uint8_t *data = mem_alloc(size_bytes);
    data[0] = first;
    sim_stream_send(scene->streams, from, to, BYTES(data, size_bytes), size_bytes);
}

static void run(struct scene *scene, uint64_t for_us)
{
    sim_engine_run_until(scene->engine, sim_engine_now_us(scene->engine) + for_us);
}

static void messages_arrive_in_order_whatever_is_lost(void **state)
{
    struct scene *scene = *state;
    sim_network_set_loss(scene->network, 300000);
    for (uint8_t i = 0; i < 32; i++) {
        send(scene, 0, 1, i, i % 4 == 0 ? BYTES_MANY : 10);
    }
    run(scene, 300 * SIM_US_PER_S);
    /* With so much loss a message may be late, even too late; none overtakes another. */
    assert_int_equal(scene->taken_count + sim_streams_lost_count(scene->streams), 32);
    assert_true(scene->taken_count > 0);
    for (size_t i = 1; i < scene->taken_count; i++) {
        assert_true(scene->taken[i - 1].first < scene->taken[i].first);
        assert_true(scene->taken[i - 1].at_us <= scene->taken[i].at_us);
    }
}

static void a_connection_is_set_up_once_for_both_directions(void **state)
{
    struct scene *scene = *state;
    sim_network_set_zone(scene->network, 1, 1);
    sim_network_set_distance(scene->network, 0, 1, 100000);
    send(scene, 0, 1, 1, 10);
    run(scene, SIM_US_PER_S);
    send(scene, 0, 1, 2, 10);
    run(scene, SIM_US_PER_S);
    send(scene, 1, 0, 3, 10);
    run(scene, SIM_US_PER_S);
    assert_int_equal(scene->taken_count, 3);
    assert_in_range(scene->taken[0].at_us, 300000, 400000); /* a round trip, then the way */
    assert_in_range(scene->taken[1].at_us, SIM_US_PER_S + 100000, SIM_US_PER_S + 200000);
    assert_in_range(scene->taken[2].at_us, 2 * SIM_US_PER_S + 100000, 2 * SIM_US_PER_S + 200000);
}

static void large_messages_need_more_round_trips(void **state)
{
    struct scene *scene = *state;
    sim_network_set_zone(scene->network, 1, 1);
    sim_network_set_distance(scene->network, 0, 1, 100000);
    send(scene, 0, 1, 1, 150000); /* 104 packets: windows of 10, 20, 40 and the rest */
    run(scene, 10 * SIM_US_PER_S);
    assert_int_equal(scene->taken_count, 1);
    assert_in_range(scene->taken[0].at_us, 900000, 1200000);
}

static void a_short_partition_delays_and_a_long_one_loses(void **state)
{
    struct scene *scene = *state;
    sim_network_set_group(scene->network, 1, 1);
    sim_network_set_cut(scene->network, 0, 1, true);
    send(scene, 0, 1, 1, 10);
    run(scene, 2 * SIM_US_PER_S);
    assert_int_equal(scene->taken_count, 0);
    sim_network_heal(scene->network);
    run(scene, 4 * SIM_US_PER_S);
    assert_int_equal(scene->taken_count, 1);

    sim_network_set_cut(scene->network, 1, 0, true); /* no acknowledgement comes back */
    send(scene, 0, 1, 2, 10);
    send(scene, 0, 1, 3, 10);
    run(scene, SIM_STREAM_TIMEOUT_US + 10 * SIM_US_PER_S);
    sim_network_heal(scene->network);
    run(scene, 60 * SIM_US_PER_S);
    assert_int_equal(scene->taken_count, 1);
    assert_int_equal(sim_streams_lost_count(scene->streams), 2);
    send(scene, 0, 1, 4, 10);
    run(scene, SIM_US_PER_S);
    assert_int_equal(scene->taken_count, 2);
}

static void a_restart_of_either_end_breaks_the_connection(void **state)
{
    struct scene *scene = *state;
    send(scene, 0, 1, 1, 10);
    run(scene, SIM_US_PER_S);
    scene->lives[1]++;
    send(scene, 0, 1, 2, 10); /* is reset */
    run(scene, SIM_US_PER_S);
    assert_int_equal(scene->taken_count, 1);
    send(scene, 0, 1, 3, 10);
    run(scene, SIM_US_PER_S);
    assert_int_equal(scene->taken_count, 2);

    send(scene, 0, 1, 4, 10);
    scene->lives[0]++; /* before it is on its way */
    send(scene, 0, 1, 5, 10);
    run(scene, SIM_US_PER_S);
    assert_int_equal(scene->taken_count, 3);
    assert_int_equal(scene->taken[2].first, 5);
    assert_int_equal(sim_streams_lost_count(scene->streams), 2);
}

static void a_full_receiver_is_waited_for_and_a_dead_one_given_up(void **state)
{
    struct scene *scene = *state;
    scene->answers[1] = SIM_STREAM_FULL;
    send(scene, 0, 1, 1, 10);
    run(scene, 8 * SIM_US_PER_S);
    scene->answers[1] = SIM_STREAM_TAKEN;
    run(scene, SIM_US_PER_S);
    assert_int_equal(scene->taken_count, 1);
    scene->answers[2] = SIM_STREAM_DEAD;
    send(scene, 0, 2, 2, 10);
    run(scene, 60 * SIM_US_PER_S);
    assert_int_equal(scene->taken_count, 1);
    assert_int_equal(sim_streams_lost_count(scene->streams), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_arrive_in_order_whatever_is_lost, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_connection_is_set_up_once_for_both_directions, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(large_messages_need_more_round_trips, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_short_partition_delays_and_a_long_one_loses, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_restart_of_either_end_breaks_the_connection, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_full_receiver_is_waited_for_and_a_dead_one_given_up,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
