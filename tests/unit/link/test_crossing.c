/* SPDX-License-Identifier: Apache-2.0 */
#include "link/crossing.h"

#include "helpers.h"

#define OWN_NONCE 55

static bool takes(uint8_t own, uint8_t peer, struct crossing_standing standing, uint64_t number,
                  uint64_t known)
{
    const struct preamble incoming = {.id = test_id(peer),
                                      .boot_nonce = 7,
                                      .number = number,
                                      .known_nonce = OWN_NONCE,
                                      .known_number = known};
    standing.own_id = test_id(own);
    standing.own_nonce = standing.own_nonce ? standing.own_nonce : OWN_NONCE;
    return crossing_takes(&standing, &incoming);
}

static void of_two_that_cross_the_lower_ids_remains(void **state)
{
    (void)state;
    const struct crossing_standing ours = {.is_outgoing = true, .is_asked = true, .number = 3};
    /* Both ends have asked; each sees the other's question. Exactly one is taken. */
    assert_false(takes(1, 2, ours, 3, 0));
    assert_true(takes(2, 1, ours, 3, 0));
    /* What was known before is no proof that the peer has seen number 3. */
    assert_false(takes(1, 2, ours, 9, 2));
}

static void one_that_the_peer_cannot_have_seen_gives_way(void **state)
{
    (void)state;
    const struct crossing_standing ours = {.is_outgoing = true, .number = 3};
    assert_true(takes(1, 2, ours, 1, 0));
    assert_true(takes(2, 1, ours, 1, 0));
}

static void a_late_question_does_not_end_what_stands(void **state)
{
    (void)state;
    const struct crossing_standing ours = {.is_outgoing = true,
                                           .is_asked = true,
                                           .is_established = true,
                                           .boot_nonce = 7,
                                           .number = 3};
    assert_false(takes(1, 2, ours, 1, 0));
    assert_false(takes(2, 1, ours, 1, 2));
}

static void a_peer_that_lost_ours_is_taken(void **state)
{
    (void)state;
    const struct crossing_standing ours = {.is_outgoing = true,
                                           .is_asked = true,
                                           .is_established = true,
                                           .boot_nonce = 7,
                                           .number = 3};
    assert_true(takes(1, 2, ours, 1, 3));
    assert_true(takes(2, 1, ours, 1, 4));
}

static void what_the_peer_knew_in_our_former_life_counts_for_nothing(void **state)
{
    (void)state;
    struct crossing_standing ours = {
        .own_nonce = OWN_NONCE + 1, .is_outgoing = true, .is_asked = true, .number = 3};
    assert_false(takes(1, 2, ours, 1, 100));
    ours.is_established = true;
    ours.boot_nonce = 7;
    assert_false(takes(1, 2, ours, 1, 100));
}

static void a_peer_that_comes_again_is_taken_once(void **state)
{
    (void)state;
    const struct crossing_standing theirs = {.is_established = true, .boot_nonce = 7, .number = 5};
    assert_true(takes(1, 2, theirs, 6, 0));
    assert_true(takes(2, 1, theirs, 6, 0));
    assert_false(takes(1, 2, theirs, 5, 0));
    assert_false(takes(1, 2, theirs, 4, 0));
}

static void a_new_life_of_the_peer_is_taken(void **state)
{
    (void)state;
    const struct crossing_standing ours = {.is_outgoing = true,
                                           .is_asked = true,
                                           .is_established = true,
                                           .boot_nonce = 6,
                                           .number = 3};
    const struct crossing_standing theirs = {.is_established = true, .boot_nonce = 6, .number = 5};
    assert_true(takes(1, 2, ours, 1, 0));
    assert_true(takes(1, 2, theirs, 1, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_two_that_cross_the_lower_ids_remains),
        cmocka_unit_test(one_that_the_peer_cannot_have_seen_gives_way),
        cmocka_unit_test(a_late_question_does_not_end_what_stands),
        cmocka_unit_test(a_peer_that_lost_ours_is_taken),
        cmocka_unit_test(what_the_peer_knew_in_our_former_life_counts_for_nothing),
        cmocka_unit_test(a_peer_that_comes_again_is_taken_once),
        cmocka_unit_test(a_new_life_of_the_peer_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
