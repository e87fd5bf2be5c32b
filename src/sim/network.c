/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/network.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/random.h"

/* One way through a switched network of one site, as quantiles: most take some 0.2 ms, kernel and
 * wakening of the process included, one in a thousand ten times as long because a queue was full or
 * the process did not get its turn. Between two of these, linear. */
static const struct {
    uint32_t below_ppm;
    uint32_t delay_us;
} lan[] = {
    {0, 60},       {50000, 110},  {250000, 160},  {500000, 200},   {750000, 260},
    {900000, 350}, {990000, 700}, {999000, 2000}, {999900, 10000}, {1000000, 30000},
};

struct host {
    uint32_t loss_out_ppm;
    uint32_t loss_in_ppm;
    uint32_t group;
    uint32_t zone;
    uint64_t up_busy_until_us;
    uint64_t down_busy_until_us;
};

struct link_rule {
    uint64_t link; /* from << 32 | to */
    uint32_t loss_ppm;
    UT_hash_handle hh;
};

struct sim_network {
    struct random random;
    uint32_t loss_ppm;
    uint32_t duplicate_ppm;
    uint32_t late_ppm;
    uint64_t rate_bps;
    bool is_cut_anywhere;
    uint64_t cuts[SIM_GROUPS_MAX]; /* bit g of cuts[f]: f can't send to g */
    uint32_t distances_us[SIM_ZONES_MAX][SIM_ZONES_MAX];
    struct link_rule *rules;
    size_t hosts_count;
    struct host *hosts;
};

struct sim_network *sim_network_new(const struct sim_network_options *options)
{
    struct sim_network *network = mem_alloc(sizeof *network);
    random_init(&network->random, options->seed);
    network->loss_ppm = options->loss_ppm;
    network->duplicate_ppm = options->duplicate_ppm;
    network->late_ppm = options->late_ppm;
    network->rate_bps = options->rate_bps ? options->rate_bps : SIM_RATE_BPS_DEFAULT;
    network->hosts_count = options->hosts_max;
    network->hosts = mem_alloc_array(options->hosts_max, sizeof *network->hosts);
    return network;
}

void sim_network_free(struct sim_network *network)
{
    if (!network) {
        return;
    }
    sim_network_clear_links(network);
    free(network->hosts);
    free(network);
}

void sim_network_set_loss(struct sim_network *network, uint32_t loss_ppm)
{
    network->loss_ppm = loss_ppm;
}

void sim_network_set_duplicate(struct sim_network *network, uint32_t duplicate_ppm)
{
    network->duplicate_ppm = duplicate_ppm;
}

void sim_network_set_late(struct sim_network *network, uint32_t late_ppm)
{
    network->late_ppm = late_ppm;
}

void sim_network_set_host_loss(struct sim_network *network, uint32_t host, uint32_t out_ppm,
                               uint32_t in_ppm)
{
    CHECK(host < network->hosts_count);
    network->hosts[host].loss_out_ppm = out_ppm;
    network->hosts[host].loss_in_ppm = in_ppm;
}

static struct link_rule *find_rule(const struct sim_network *network, uint32_t from, uint32_t to)
{
    if (!network->rules) {
        return NULL;
    }
    const uint64_t link = (uint64_t)from << 32 | to;
    struct link_rule *rule;
    HASH_FIND(hh, network->rules, &link, sizeof link, rule);
    return rule;
}

void sim_network_set_link_loss(struct sim_network *network, uint32_t from, uint32_t to,
                               uint32_t loss_ppm)
{
    struct link_rule *rule = find_rule(network, from, to);
    if (rule && loss_ppm == 0) {
        HASH_DEL(network->rules, rule);
        free(rule);
    } else if (rule) {
        rule->loss_ppm = loss_ppm;
    } else if (loss_ppm > 0) {
        rule = mem_alloc(sizeof *rule);
        rule->link = (uint64_t)from << 32 | to;
        rule->loss_ppm = loss_ppm;
        HASH_ADD(hh, network->rules, link, sizeof rule->link, rule);
    }
}

void sim_network_clear_links(struct sim_network *network)
{
    struct link_rule *rule;
    struct link_rule *next;
    HASH_ITER(hh, network->rules, rule, next)
    {
        HASH_DEL(network->rules, rule);
        free(rule);
    }
}

void sim_network_set_group(struct sim_network *network, uint32_t host, uint32_t group)
{
    CHECK(host < network->hosts_count && group < SIM_GROUPS_MAX);
    network->hosts[host].group = group;
}

void sim_network_set_cut(struct sim_network *network, uint32_t from, uint32_t to, bool is_cut)
{
    CHECK(from < SIM_GROUPS_MAX && to < SIM_GROUPS_MAX);
    const uint64_t bit = UINT64_C(1) << to;
    network->cuts[from] = is_cut ? network->cuts[from] | bit : network->cuts[from] & ~bit;
    network->is_cut_anywhere = false;
    for (size_t i = 0; i < SIM_GROUPS_MAX; i++) {
        network->is_cut_anywhere = network->is_cut_anywhere || network->cuts[i] != 0;
    }
}

void sim_network_heal(struct sim_network *network)
{
    memset(network->cuts, 0, sizeof network->cuts);
    network->is_cut_anywhere = false;
}

void sim_network_set_zone(struct sim_network *network, uint32_t host, uint32_t zone)
{
    CHECK(host < network->hosts_count && zone < SIM_ZONES_MAX);
    network->hosts[host].zone = zone;
}

void sim_network_set_distance(struct sim_network *network, uint32_t zone, uint32_t other,
                              uint32_t delay_us)
{
    CHECK(zone < SIM_ZONES_MAX && other < SIM_ZONES_MAX);
    network->distances_us[zone][other] = delay_us;
    network->distances_us[other][zone] = delay_us;
}

static bool is_cut(const struct sim_network *network, uint32_t from, uint32_t to)
{
    return network->is_cut_anywhere &&
           (network->cuts[network->hosts[from].group] >> network->hosts[to].group & 1) != 0;
}

bool sim_network_reaches(const struct sim_network *network, uint32_t from, uint32_t to)
{
    CHECK(from < network->hosts_count && to < network->hosts_count);
    const struct link_rule *rule = find_rule(network, from, to);
    return !is_cut(network, from, to) && network->loss_ppm < SIM_PPM &&
           network->hosts[from].loss_out_ppm < SIM_PPM &&
           network->hosts[to].loss_in_ppm < SIM_PPM && !(rule && rule->loss_ppm >= SIM_PPM);
}

static bool happens(struct sim_network *network, uint32_t ppm)
{
    return ppm > 0 && random_below(&network->random, SIM_PPM) < ppm;
}

bool sim_network_loses(struct sim_network *network, uint32_t from, uint32_t to)
{
    CHECK(from < network->hosts_count && to < network->hosts_count);
    if (is_cut(network, from, to) || happens(network, network->loss_ppm) ||
        happens(network, network->hosts[from].loss_out_ppm) ||
        happens(network, network->hosts[to].loss_in_ppm)) {
        return true;
    }
    const struct link_rule *rule = find_rule(network, from, to);
    return rule && happens(network, rule->loss_ppm);
}

uint64_t sim_network_delay_us(struct sim_network *network, uint32_t from, uint32_t to)
{
    const uint32_t drawn = (uint32_t)random_below(&network->random, SIM_PPM);
    size_t i = 1;
    while (drawn >= lan[i].below_ppm) {
        i++;
    }
    const uint64_t width_ppm = lan[i].below_ppm - lan[i - 1].below_ppm;
    const uint64_t rise_us = lan[i].delay_us - lan[i - 1].delay_us;
    const uint64_t delay_us =
        lan[i - 1].delay_us + (drawn - lan[i - 1].below_ppm) * rise_us / width_ppm;
    return delay_us + network->distances_us[network->hosts[from].zone][network->hosts[to].zone];
}

size_t sim_network_route(struct sim_network *network, uint32_t from, uint32_t to,
                         uint64_t ret_delays_us[SIM_COPIES_MAX])
{
    if (sim_network_loses(network, from, to)) {
        return 0;
    }
    const size_t copies = happens(network, network->duplicate_ppm) ? SIM_COPIES_MAX : 1;
    for (size_t i = 0; i < copies; i++) {
        ret_delays_us[i] = sim_network_delay_us(network, from, to);
        if (happens(network, network->late_ppm)) {
            ret_delays_us[i] += random_below(&network->random, SIM_LATE_US_MAX);
        }
    }
    return copies;
}

uint64_t sim_network_transmit_us(struct sim_network *network, uint64_t now_us, uint32_t from,
                                 uint32_t to, uint64_t size_bytes)
{
    CHECK(from < network->hosts_count && to < network->hosts_count);
    uint64_t *up = &network->hosts[from].up_busy_until_us;
    uint64_t *down = &network->hosts[to].down_busy_until_us;
    const uint64_t takes_us = size_bytes * 8 * 1000000 / network->rate_bps;
    *up = (now_us > *up ? now_us : *up) + takes_us;
    /* What comes faster than the receiver's link takes it waits in the switch. */
    *down = *up > *down + takes_us ? *up : *down + takes_us;
    return *down;
}
