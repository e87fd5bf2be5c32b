/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of the members of a real network. */
#include "real_nodes.h"

#include "wire/tree_op.h"

static struct origin_id origin_of(const struct one *one, uint8_t start)
{
    struct origin_id origin = {{start}};
    origin_id_set_node(&origin, node_identity(one->node));
    return origin;
}

static void assert_writer(const struct one *asked, const struct origin_id *origin,
                          const struct one *writer)
{
    struct node_id id;
    assert_true(network_writer(asked->network, origin, &id));
    assert_true(node_id_equal(&id, node_identity(writer->node)));
}

/* Whoever was asked for before. */
static void the_writer_of_a_log(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    const struct origin_id first = origin_of(&pair[0], 1);
    const struct origin_id earlier = origin_of(&pair[0], 2);
    const struct origin_id second = origin_of(&pair[1], 1);
    const struct origin_id nobodys = {{7, 7, 7}};
    struct node_id id;
    for (unsigned round = 0; round < 3; round++) {
        assert_writer(&pair[0], &second, &pair[1]);
        assert_writer(&pair[0], &second, &pair[1]);
        assert_writer(&pair[0], &first, &pair[0]);
        assert_false(network_writer(pair[0].network, &nobodys, &id));
        assert_false(network_writer(pair[0].network, &nobodys, &id));
        assert_writer(&pair[0], &earlier, &pair[0]);
        assert_writer(&pair[1], &earlier, &pair[0]);
    }
    close_one(&pair[1]);
    close_one(&pair[0]);
}

int main(void)
{
    log_set_level(LOG_OFF);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_writer_of_a_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
