"""The hard cases: what breaks clusters of two, the rule that closes each, and the scenarios that prove it.

One list, from which the promise's table is generated (:mod:`tests.promise`) and by which a test finds each scenario.
"""

from __future__ import annotations

from dataclasses import dataclass

_FAULTS, _MORE = "simulation/test_faults.py", "simulation/test_hard_cases_more.py"
_DEAD_LAN, _CLONES, _ASKING, _STALLS = (
    "simulation/test_dead_lan.py", "simulation/test_clones.py", "simulation/test_asking.py", "simulation/test_stalls.py"
)
_CASES = "simulation/test_hard_cases.py"
_DATA, _LAB = "simulation/test_data.py", "lab/test_cluster.py"
_HOSTILE = "simulation/test_hostile.py"
_ATTACK = "its faults are breakdowns; this is an attack"
_DEAD_AGENT = "test_an_agent_that_is_dead_or_frozen_takes_its_services_along_before_the_other_one_starts_them"


@dataclass(frozen=True)
class HardCase:
    """A way in which clusters of two fail.

    :param key: a short name.
    :param title: what happens, as a person says it.
    :param rule: what closes it.
    :param scenarios: the tests that prove it, ``file::function`` below ``tests/``.
    :param chaos: kinds of faults of the long-running driver that bring it about in the lab.
    :param not_simulated: why none of the scenarios is the simulator's.
    :param not_in_chaos: why no kind of fault of that driver brings it about.
    """

    key: str
    title: str
    rule: str
    scenarios: tuple[str, ...]
    chaos: tuple[str, ...] = ()
    not_simulated: str = ""
    not_in_chaos: str = ""


HARD_CASES: tuple[HardCase, ...] = (
    HardCase(
        "dead_lan",
        "The guests' network is dead although the carrier is up: wrong VLAN, half-dead switch",
        "The passive gateway always asks for each virtual IP. One that nobody answers for, on a port where others are "
        "heard, is ill health of the active, and moves the role.",
        (
            f"{_DEAD_LAN}::test_dead_lan_with_carrier_up_moves_the_role",
            f"{_LAB}::test_dead_lan_with_carrier_up",
            f"{_MORE}::test_a_port_that_sends_but_hears_nothing_is_found_too",
        ),
        ("cut_lan", "cut_lan_out", "cut_lan_in", "wrong_vlan"),
    ),
    HardCase(
        "blind_port",
        "A port has just come up and passes nothing yet: spanning tree, port isolation",
        "Silence on a port is evidence only if the other gateway was seen there since its carrier came up. Of two that "
        "are active, the one that served guests stays, whatever the terms.",
        (
            f"{_DEAD_LAN}::test_bounced_blind_passive_does_not_dethrone_the_server",
            "unit/test_core.py::test_who_served_stays_whatever_the_term",
            f"{_LAB}::test_blind_port_does_not_claim",
            f"{_CASES}::test_of_two_active_the_one_that_served_stays",
            f"{_CASES}::test_a_blind_port_is_believed_again_once_the_peer_was_seen_there",
        ),
        ("spanning_tree", "isolated"),
    ),
    HardCase(
        "forged_hold",
        "A guest answers for the virtual IP, by accident or on purpose",
        "Only the MAC that the other gateway has signed speaks for it; any other one is an alarm that delays nothing. "
        "MACs can be forged, too: where Ethernet heartbeats have worked, an answer alone holds for two leases at most.",
        (
            f"{_FAULTS}::test_a_guest_with_the_address_delays_nothing",
            f"{_FAULTS}::test_all_authenticated_paths_cut_but_the_address_answers",
            f"{_LAB}::test_a_guest_with_the_address_delays_no_failover",
            f"{_CASES}::test_a_forged_answer_holds_for_two_leases_at_most",
        ),
        ("hostile_guest",),
    ),
    HardCase(
        "leaving_hold",
        "One answer for the virtual IP is lost, and two gateways have it for ever",
        "A hold ends only after the lease, and after a full burst without an answer. Who claimed out of a hold "
        "releases as soon as the other gateway answers after all, heartbeats or none.",
        (
            f"{_FAULTS}::test_killed_at_any_moment_between_two_renewals",
            f"{_LAB}::test_killed_agent",
            f"{_CASES}::test_no_lost_probes_end_a_hold",
            f"{_CASES}::test_who_claimed_out_of_hold_releases_when_the_other_one_still_answers",
        ),
        ("kill_agent", "freeze_agent"),
    ),
    HardCase(
        "demotion",
        "A gateway that gives up its role acknowledges writes that the other one never got",
        "The right to write ends first, waiting commits are broken off, and only then does anything change that would "
        "let them through.",
        (
            "replication/test_core.py::test_a_demotion_acknowledges_nothing_that_waits_for_a_dead_peer",
            f"{_DATA}::test_a_hand_over_refuses_writes_first",
            "lab/test_data.py::test_a_hand_over_under_load_loses_nothing_and_uses_no_number_twice",
            f"{_CASES}::test_a_commit_that_waits_when_the_role_goes_is_no_success",
        ),
        ("failover",),
    ),
    HardCase(
        "back_in_time",
        "A database goes back in time: a snapshot is restored, a disk is cloned",
        "Positions and a random number of each run are compared before anything streams, and again before commits "
        "wait. Who is ahead of its source has diverged: it is compared and joins again, with quarantine.",
        (
            "replication/test_went_back.py::test_who_went_back_in_time_is_compared_with",
            "replication/test_rejoin.py::test_a_gateway_that_went_back_in_time_is_compared",
            "lab/test_data_faults.py::test_a_database_that_was_put_back_to_an_earlier_state",
        ),
        not_simulated="the simulator's databases have numbers of writes, and no files that a snapshot could "
        "put back",
        not_in_chaos="it counts what both gateways had confirmed, and a snapshot that is restored forgets that "
        "by intent",
    ),
    HardCase(
        "gates",
        "What keeps a gateway from claiming never ends: maintenance, a reference address that died with the active",
        "Gates postpone, they do not forbid: without any sign of the other gateway for three leases it claims with "
        "what works. Maintenance ends by itself, and outlives a reboot.",
        (
            f"{_FAULTS}::test_gates_postpone_but_do_not_forbid",
            f"{_MORE}::test_a_closed_gate_opens_after_three_leases",
            "unit/test_service.py::test_maintenance_survives_a_restart_and_expires",
            f"{_LAB}::test_maintenance_hands_over_and_keeps_off",
            f"{_CASES}::test_maintenance_postpones_a_claim_and_outlives_a_reboot",
        ),
        ("maintenance", "disk_full"),
    ),
    HardCase(
        "health_flapping",
        "Cables and checks flap, and the role is thrown to and fro",
        "Worse counts at once, better after 5 s. What both suffer from moves nothing. The passive answers with its "
        "present health before anything moves; after a move for health the next one waits 60 s, doubling.",
        (
            "unit/test_core.py::test_health_gets_worse_at_once_and_better_after_a_while",
            "unit/test_core.py::test_the_brake_doubles_and_an_operator_releases_it",
            "simulation/test_services.py::test_a_check_that_fails_on_both_gateways_moves_nothing",
            f"{_MORE}::test_cables_that_flap_on_both_move_the_role_ever_more_rarely",
            f"{_LAB}::test_lan_cable",
            f"{_FAULTS}::test_lan_cable_moves_the_role_at_once",
            f"{_CASES}::test_a_flapping_check_moves_the_role_ever_less_often",
        ),
        ("pull_lan",),
    ),
    HardCase(
        "expiry",
        "The end of a lease takes the gateway's own addresses along",
        "The kernel keeps the others when one ends, own addresses come first, and shared ones are host addresses "
        "beside them. Routes are put back by the agent.",
        (
            "lab/test_network.py::test_the_kernel_drops_an_address_that_is_not_renewed_and_nothing_else",
            "lab/test_shared_networks.py::test_a_frozen_agents_gateway_loses_them_and_keeps_its_own",
            "unit/test_addresses.py::test_an_expiring_lease_takes_no_own_network_along",
        ),
        ("kill_agent", "freeze_agent"),
        not_simulated="the simulator's kernel has neither own addresses nor routes that the end of a lease could "
        "take along",
    ),
    HardCase(
        "degraded",
        "A gateway goes on alone, and the one without its last writes takes over later",
        "The other gateway is told before commits no longer wait for it. It remembers since when it lacks something, "
        "and says so when it has to serve; if it comes up alone it waits first.",
        (
            f"{_DATA}::test_commits_go_on_alone_only_after_the_other_gateway_was_told",
            f"{_DATA}::test_whoever_takes_over_from_a_degraded_gateway_says_so",
            "simulation/test_stale.py::test_the_one_that_followed_waits_and_then_serves_with_a_word_about_it",
            "lab/test_replace.py::test_a_gateway_that_missed_writes_waits_then_serves_and_says_so",
            "lab/test_data_faults.py::test_the_data_takes_the_backup_link_while_the_sync_cable_is_out",
            f"{_CASES}::test_what_was_written_alone_is_in_quarantine_after_both_were_switched_off",
        ),
        ("pull_sync", "cut_sync_in", "cut_sync_out", "cut_links"),
    ),
    HardCase(
        "stalls",
        "A renewal brings back an address that had lapsed; a hypervisor stops a whole machine",
        "What has arrived is read before each renewal, and the clock after it: if more than a lease has passed, the "
        "address goes at once. A machine that stood still once is given more time for an hour.",
        (
            "unit/test_core.py::test_a_renewal_that_resurrected_a_lapsed_address_is_taken_back",
            "unit/test_core.py::test_a_lapsed_lease_is_never_renewed",
            f"{_STALLS}::test_a_machine_that_stood_still_once_is_given_more_time",
            f"{_FAULTS}::test_frozen_agent_yields_when_thawed",
            f"{_LAB}::test_frozen_agent_yields_when_thawed",
            f"{_CASES}::test_a_renewal_that_came_too_late_is_taken_back_at_once",
            f"{_CASES}::test_a_claim_that_stood_still_before_the_kernel_yields_to_who_serves",
            f"{_CASES}::test_a_paused_machine_whose_clock_stood_still_yields_within_a_heartbeat",
        ),
        ("freeze_agent", "starved", "clock_agent"),
    ),
    HardCase(
        "announcements",
        "Announcements make a switch disable a port, or do nothing; modems know one MAC only",
        "They are paced, virtual IPs first, and known neighbours are told by unicast, too. A virtual MAC per port "
        "makes them unnecessary. Questions on the wire stay below what ARP inspection allows, but where a hold ends.",
        (
            "unit/test_announcer.py::test_virtual_ips_go_first_and_each_alias_once_before_any_twice",
            "unit/test_probing.py::test_a_switch_with_arp_inspection_minds_neither_these_nor_the_agents_own_questions",
            f"{_ASKING}::test_a_waiting_gateway_asks_seldom",
            f"{_ASKING}::test_a_hold_asks_seldom_but_around_the_end_of_a_lease",
            f"{_LAB}::test_known_neighbours_are_told_by_unicast_too",
            "lab/test_virtual_mac.py::test_a_fail_over_changes_no_neighbours_cache",
            f"{_CASES}::test_a_conflict_is_announced_against_once_in_ten_seconds",
            f"{_CASES}::test_a_guest_that_missed_the_announcements_is_served_again",
            "lab/test_network.py::test_announcements_move_the_clients_neighbour_cache",
        ),
        not_in_chaos="none of its switches disables a port; that guests follow the address is seen at each fail-over",
    ),
    HardCase(
        "beside_the_lease",
        "What no lease ends: PPPoE, DHCP, RADIUS, router advertisements of a gateway whose agent is dead",
        "What runs on the active gateway only ends with its agent, before the lease does, and starts on the other one "
        "only after that. Router advertisements come from an address that is shared.",
        (
            "simulation/test_services.py::test_random_faults_with_hooks_that_hang",
            "simulation/test_services.py::test_a_claim_knows_whether_what_the_other_gateway_ran_must_have_ended",
            f"lab/test_services.py::{_DEAD_AGENT}",
            "lab/test_pppoe.py::test_it_moves_with_the_role_and_is_never_on_both",
            "lab/test_router_advertisements.py::test_a_fail_over_takes_no_guests_router_away",
        ),
        ("kill_services", "kill_agent", "freeze_agent"),
    ),
    HardCase(
        "database_lease",
        "The wall clock is set, and the right to write lasts longer; a partition has no guard",
        "The right to write is counted in boot time, and ends before the address does. PostgreSQL's launcher, which "
        "pauses by the wall clock, is begun anew where it sleeps. Every partition is guarded, and a new one as soon as "
        "it is seen.",
        (
            "replication/test_guard.py::test_a_wall_clock_that_was_stepped_makes_no_lease_longer",
            "replication/test_guard.py::test_what_was_begun_within_the_lease_is_not_committed_after_it",
            "replication/test_checks.py::test_a_new_partition_has_no_guard_until_it_is_armed",
            f"{_DATA}::test_random_faults_never_leave_two_writable_for_longer_than_two_hold_the_address",
            "simulation/test_simulator.py::test_no_effect_depends_on_the_wall_clock",
            "lab/test_data_faults.py::test_a_launcher_that_pauses_for_an_hour_is_begun_anew",
            f"{_CASES}::test_the_right_to_write_ends_before_the_address",
        ),
        ("clock_database", "clock_agent"),
    ),
    HardCase(
        "terms",
        "Two reigns have the same number, or a number is used again after a crash",
        "A term is a counter and the gateway that reigns. Counters are on disk before they are needed; a restart "
        "skips what was reserved. A higher term of a passive gateway is noted, and nobody yields to it.",
        (
            f"{_FAULTS}::test_terms_only_grow_and_are_unique",
            "simulation/test_changes.py::test_a_higher_term_of_a_passive_is_not_yielded_to_by_an_agent_that_restarts",
            "simulation/test_changes.py::test_terms_grow_over_a_change_of_the_peer",
            "unit/test_node_store.py::test_terms_never_go_back",
            f"{_CASES}::test_a_crash_between_any_two_effects_of_a_claim_burns_its_term",
        ),
        ("reboot", "power_off", "store_full"),
    ),
    HardCase(
        "clones",
        "A copy of a gateway, disk and all, is switched on",
        "A gateway's identity belongs to its machine: elsewhere it starts outside any cluster. Another machine that "
        "proves our own identity is an alarm; while it is heard, this gateway claims nothing.",
        (
            "unit/test_service.py::test_a_cloned_disk_stays_out_with_an_alarm",
            "unit/test_datagram.py::test_two_machines_with_one_identity_prove_each_other",
            f"{_CLONES}::test_no_claim_while_a_clone_is_heard_and_one_after_it",
            f"{_CLONES}::test_a_clone_keeps_its_twin_from_the_tie_break",
            f"{_CLONES}::test_an_active_gateway_goes_on_although_it_has_a_clone",
            f"{_CLONES}::test_a_clone_keeps_a_hold_from_its_claim",
        ),
        not_in_chaos="it has two gateways; a third machine with the identity of one would have to be built",
    ),
    HardCase(
        "agent_restart",
        "The agent is restarted, late, or short of memory",
        "Restarted within its lease, on the same boot, with no other active gateway heard during a burst, it goes on "
        "with its term. One that ran late listens before it renews, and keeps a lease that is still valid.",
        (
            f"{_FAULTS}::test_killed_and_restarted_within_the_lease_goes_on_as_the_active",
            f"{_FAULTS}::test_short_freeze_moves_nothing",
            f"{_LAB}::test_killed_and_restarted_within_its_lease_goes_on",
            f"{_LAB}::test_short_freeze_moves_nothing",
            f"{_FAULTS}::test_frozen_agent_yields_when_thawed",
        ),
        ("restart_agent", "stop_agent", "kill_agent", "starved"),
    ),
    HardCase(
        "kernel",
        "An address answers through another port; a thousand renewals a second wake everybody",
        "Each port answers for its own addresses only. Virtual IPs are renewed each time, aliases in turn. IPv6 "
        "addresses serve at once, after a question of our own.",
        (
            "lab/test_network.py::test_port_settings_are_made",
            "lab/test_network.py::test_who_renews_need_not_hear_himself",
            "lab/test_network.py::test_an_ipv6_shared_address_is_usable_at_once",
            "unit/test_addresses.py::test_a_renewal_has_the_few_and_each_alias_in_turn",
        ),
        not_simulated="it is about what Linux answers and tells by itself; only a real kernel shows that",
        not_in_chaos="it is no fault that begins and ends, but how ports are set up",
    ),
    HardCase(
        "reboots",
        "A gateway reboots every ten minutes, and takes the role along each time that it is back",
        "Equal health never moves the role: who comes back stays passive.",
        (
            f"{_FAULTS}::test_returning_gateway_does_not_fail_back",
            f"{_MORE}::test_a_gateway_that_reboots_again_and_again_moves_nothing",
            f"{_LAB}::test_power_off_and_no_fail_back",
        ),
        ("reboot", "power_off"),
    ),
    HardCase(
        "boot_together",
        "Both gateways boot at once",
        "Each listens first. Two passives that hear each other compare health, data, terms, identity, in this order, "
        "and one claims; if it cannot, the other one does.",
        (
            f"{_FAULTS}::test_two_that_boot_together_end_with_one_active",
            f"{_FAULTS}::test_two_that_boot_together_never_hold_the_address_both",
            "simulation/test_changes.py::test_a_gateway_whose_kernel_refuses_the_address_does_not_keep_the_other_from_it",
            f"{_LAB}::test_two_that_boot_together_end_with_exactly_one",
        ),
        ("power_off",),
    ),
    HardCase(
        "isolation",
        "Nothing at all passes between the two gateways, and both reach guests",
        "No system of two can tell a dead one from an unreachable one: both serve. Once they hear each other the one "
        "that served stays, and what the other one wrote goes to quarantine.",
        (
            f"{_FAULTS}::test_isolation_is_the_documented_limit_and_heals_alone",
            f"{_FAULTS}::test_a_passive_that_hears_nothing_any_more_takes_over_and_the_other_one_sees_it",
            f"{_FAULTS}::test_an_active_that_hears_nothing_any_more_stays",
            f"{_LAB}::test_all_wires_between_the_two_cut_is_the_documented_limit_and_heals",
            "lab/test_data.py::test_both_are_written_to_while_isolated_and_nothing_is_lost",
        ),
        ("partition",),
    ),
    HardCase(
        "pairing",
        "Pairing goes over the port of the guests' portal, and can be listened to",
        "A code lives for minutes and bears five attempts. Who listened learns nothing, not even with the code later.",
        (
            "unit/test_pairing.py::test_five_attempts_end_it_for_the_right_code_too",
            "unit/test_pairing.py::test_a_man_in_the_middle_with_keys_of_his_own_gets_nowhere",
            "unit/test_pairing.py::test_a_recorded_exchange_stays_closed_to_who_learns_the_code_later",
            "unit/test_forming.py::test_garbage_at_the_public_endpoints_is_refused_and_costs_nothing",
        ),
        not_simulated="the simulator's two are paired when it begins; the exchange is of keys, and decides nothing",
        not_in_chaos="its pair is formed before it begins, and stays one",
    ),
    HardCase(
        "web_workers",
        "A web worker is taken over",
        "It relays bytes that it cannot read. Keys and the database's power are the agent's; what the control socket "
        "takes is listed, checked again, and bounded.",
        (
            "web/test_peer.py::test_relayed_as_it_is",
            "unit/test_control_server.py::test_every_verb_of_the_client_is_served_and_no_other",
            "unit/test_control_server.py::test_strangers_are_refused",
            "unit/test_control_server.py::test_rate_is_limited",
        ),
        ("kill_web", "freeze_web"),
        not_simulated="the simulator has no web app and no control socket",
    ),
    HardCase(
        "database_access",
        "The way from one database to the other is used by somebody else",
        "It is open to one role of the other gateway, from its address, with a pinned certificate. Who applies changes "
        "may do nothing else, and triggers that nobody declared are refused.",
        (
            "replication/test_access.py::test_nobody_else_comes_in_as_the_peer",
            "replication/test_apply_role.py::test_who_applies_may_do_nothing_else",
            "replication/test_checks.py::test_a_lost_key_and_an_unknown_trigger_are_findings",
        ),
        not_simulated="the simulator's databases have no roles, addresses or certificates",
        not_in_chaos=_ATTACK,
    ),
    HardCase(
        "files",
        "An active gateway that was taken over writes code onto the passive one",
        "The passive gateway pulls, with a key that can do nothing else. Devices and links out of the tree are left "
        "out, secrets never travel.",
        (
            "lab/test_files.py::test_the_key_of_the_other_gateway_can_do_nothing_else",
            "lab/test_files.py::test_what_never_leaves_a_gateway_and_what_is_dangerous",
            "lab/test_files.py::test_an_older_firmware_has_a_daemon_with_a_secret_for_the_peer_alone",
        ),
        not_simulated="the simulator has no files, and none of the processes that fetch them",
        not_in_chaos=_ATTACK,
    ),
    HardCase(
        "hostile_heartbeats",
        "Somebody floods, replays or forges heartbeats",
        "They are signed, numbered, bound to their port, and so many are read at a time. A recording is no sign of "
        "life.",
        (
            "unit/test_datagram.py::test_replay_is_refused_also_after_a_restart_of_either_side",
            "unit/test_datagram.py::test_hostile_bytes_change_nothing_but_a_counter",
            f"{_LAB}::test_hostile_datagrams_change_nothing_and_cost_no_memory",
            f"{_LAB}::test_a_recording_is_no_sign_of_life",
            f"{_HOSTILE}::test_a_recording_of_an_earlier_reign_moves_nothing",
            f"{_HOSTILE}::test_a_recording_of_earlier_agents_keeps_no_two_from_finding_each_other",
            f"{_HOSTILE}::test_a_recording_of_the_dead_active_delays_no_take_over",
            f"{_HOSTILE}::test_forged_datagrams_move_nothing",
            f"{_HOSTILE}::test_a_flood_over_the_guests_network_moves_nothing",
        ),
        ("hostile_guest",),
    ),
)
