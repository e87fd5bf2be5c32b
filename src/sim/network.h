/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_NETWORK_H
#define SIM_NETWORK_H

/*
 * network: what happens to a datagram between two hosts: nothing, loss, delay, a copy; and which
 * hosts can reach each other at all. It decides, the world carries out.
 *
 * Hosts are numbered from 0. Delays are drawn from a table of quantiles rather than from a formula:
 * no libm, so that a seed gives the same run on every machine. Reordering needs no rule of its own:
 * each datagram draws its delay alone.
 *
 * Threads: one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_PPM 1000000u
/* Groups that a partition can have; zones. */
#define SIM_GROUPS_MAX 64u
#define SIM_ZONES_MAX 16u
/* Copies of one datagram that may arrive. */
#define SIM_COPIES_MAX 2u

struct sim_network;

struct sim_network_options {
    size_t hosts_max;
    uint64_t seed;
    uint32_t loss_ppm;      /* of each datagram, independently */
    uint32_t duplicate_ppm; /* arrives twice */
    uint32_t late_ppm;      /* takes up to SIM_LATE_US_MAX longer: far out of order */
    uint64_t rate_bps;      /* of each host, each way, for messages; bits; 0: 10 Gbit/s */
};

#define SIM_LATE_US_MAX 50000u
#define SIM_RATE_BPS_DEFAULT UINT64_C(10000000000)

struct sim_network *sim_network_new(const struct sim_network_options *options);
void sim_network_free(struct sim_network *network);

/* Of all datagrams from now on. */
void sim_network_set_loss(struct sim_network *network, uint32_t loss_ppm);
void sim_network_set_duplicate(struct sim_network *network, uint32_t duplicate_ppm);
void sim_network_set_late(struct sim_network *network, uint32_t late_ppm);

/* Of what a host sends, and of what is sent to it; SIM_PPM both ways is a pulled cable. */
void sim_network_set_host_loss(struct sim_network *network, uint32_t host, uint32_t out_ppm,
                               uint32_t in_ppm);
/* Of what one host sends to one other; 0 takes the rule away. */
void sim_network_set_link_loss(struct sim_network *network, uint32_t from, uint32_t to,
                               uint32_t loss_ppm);

void sim_network_clear_links(struct sim_network *network);

/* All hosts begin in group 0, and all groups can reach each other. */
void sim_network_set_group(struct sim_network *network, uint32_t host, uint32_t group);
/* Whether group `from` can send to group `to`; the other way is another matter. */
void sim_network_set_cut(struct sim_network *network, uint32_t from, uint32_t to, bool is_cut);
/* Everybody reaches everybody again, as far as groups go; the groups stay. */
void sim_network_heal(struct sim_network *network);

/* All hosts begin in zone 0. Between zones a datagram takes so much longer. */
void sim_network_set_zone(struct sim_network *network, uint32_t host, uint32_t zone);
void sim_network_set_distance(struct sim_network *network, uint32_t zone, uint32_t other,
                              uint32_t delay_us);

/* False if nothing that `from` sends can ever reach `to` as things stand. */
bool sim_network_reaches(const struct sim_network *network, uint32_t from, uint32_t to);

/* Draws what happens to one datagram: how many copies arrive, and after which time each. */
size_t sim_network_route(struct sim_network *network, uint32_t from, uint32_t to,
                         uint64_t ret_delays_us[SIM_COPIES_MAX]);

/* Draws whether one packet is lost, and the delay of one. */
bool sim_network_loses(struct sim_network *network, uint32_t from, uint32_t to);
uint64_t sim_network_delay_us(struct sim_network *network, uint32_t from, uint32_t to);

/* Sends `size_bytes` at the rate of both ends, behind what they are sending and getting already:
 * when the last byte is through, without the delay of the way. */
uint64_t sim_network_transmit_us(struct sim_network *network, uint64_t now_us, uint32_t from,
                                 uint32_t to, uint64_t size_bytes);

#endif
