/* SPDX-License-Identifier: Apache-2.0 */

/* What could keep a fetch from its end, or end it too soon. */

#include "transfer_net.h"

static void a_frozen_sole_source_is_asked_again(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct net *net = net_new_seeded(1, 0, seed);
        const uint32_t file = net_add_file(net, 30, BLOCK_BYTES, 1, 0);
        net_give(net, 0, file, 0, 1);
        net_start(net, file, 0);
        net_run(net, 20);
        net_freeze(net, 0, 2000);
        assert_int_equal(net_finish(net, file, NULL), 0);
        assert_true(net_is_whole(net, file));
        net_free(net);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frozen_sole_source_is_asked_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
