"""The hard cases, and the scenarios that prove each rule: data for documentation, and for a test that they exist."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HardCase:
    """One hard case.

    :param rule: its number; ``text``: what happens, in a few words.
    :param scenarios: tests of the simulator, as ``module::test``, below ``tests/simulation/``.
    :param elsewhere: tests where the matter is not the decision but the kernel or PostgreSQL, below ``tests/``.
    """

    rule: int
    text: str
    scenarios: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()


HARD_CASES: tuple[HardCase, ...] = (
    HardCase(1, "The LAN is dead although the carrier is up",
             ("test_faults::test_dead_lan_with_carrier_up_moves_the_role",),
             ("lab/test_cluster.py::test_dead_lan_with_carrier_up",)),
    HardCase(2, "Silence is believed on a blind port",
             ("test_faults::test_bounced_blind_passive_does_not_dethrone_the_server",
              "test_hard_cases::test_of_two_active_the_one_that_served_stays",
              "test_hard_cases::test_a_blind_port_is_believed_again_once_the_peer_was_seen_there"),
             ("lab/test_cluster.py::test_blind_port_does_not_claim",)),
    HardCase(3, "A guest forges hold, with a MAC of its own or the gateway's",
             ("test_faults::test_a_guest_with_the_address_delays_nothing",
              "test_hard_cases::test_a_forged_answer_holds_for_two_leases_at_most"),
             ("lab/test_cluster.py::test_a_guest_with_the_address_delays_no_failover",)),
    HardCase(4, "Hold is left on one lost probe",
             ("test_faults::test_killed_at_any_moment_between_two_renewals",
              "test_hard_cases::test_no_lost_probes_end_a_hold",
              "test_hard_cases::test_who_claimed_out_of_hold_releases_when_the_other_one_still_answers"),
             ("lab/test_cluster.py::test_killed_agent",)),
    HardCase(5, "Stepping down acknowledges commits that the other gateway lacks",
             ("test_data::test_a_hand_over_refuses_writes_first",
              "test_hard_cases::test_a_commit_that_waits_when_the_role_goes_is_no_success"),
             ("replication/test_core.py::test_a_demotion_acknowledges_nothing_that_waits_for_a_dead_peer",)),
    HardCase(6, "A publisher goes back in time", (),
             ("replication/test_went_back.py::test_who_went_back_in_time_is_compared_with",
              "replication/test_rejoin.py::test_a_gateway_that_went_back_in_time_is_compared")),
    HardCase(7, "Gates that never open",
             ("test_faults::test_gates_postpone_but_do_not_forbid",
              "test_hard_cases::test_maintenance_postpones_a_claim_and_outlives_a_reboot")),
    HardCase(8, "Health that flaps",
             ("test_faults::test_lan_cable_moves_the_role_at_once",
              "test_hard_cases::test_a_flapping_check_moves_the_role_ever_less_often",
              "test_services::test_a_check_that_fails_on_both_gateways_moves_nothing")),
    HardCase(9, "An address that expires takes the node's own network with it", (),
             ("lab/test_network.py::test_the_kernel_drops_an_address_that_is_not_renewed_and_nothing_else",)),
    HardCase(10, "Degraded, then promoted later",
             ("test_data::test_whoever_takes_over_from_a_degraded_gateway_says_so",
              "test_data::test_commits_go_on_alone_only_after_the_other_gateway_was_told",
              "test_stale::test_the_one_that_followed_waits_and_then_serves_with_a_word_about_it",
              "test_hard_cases::test_what_was_written_alone_is_in_quarantine_after_both_were_switched_off")),
    HardCase(11, "A renewal resurrects a lapsed lease; a whole machine stands still",
             ("test_hard_cases::test_a_renewal_that_came_too_late_is_taken_back_at_once",
              "test_hard_cases::test_a_claim_that_stood_still_before_the_kernel_yields_to_who_serves",
              "test_hard_cases::test_a_paused_machine_whose_clock_stood_still_yields_within_a_heartbeat",
              "test_faults::test_a_machine_that_stood_still_once_is_given_more_time")),
    HardCase(12, "Announcements do harm or nothing",
             ("test_faults::test_a_waiting_gateway_asks_seldom",
              "test_faults::test_a_hold_asks_seldom_but_around_the_end_of_a_lease",
              "test_hard_cases::test_a_conflict_is_announced_against_once_in_ten_seconds",
              "test_hard_cases::test_a_guest_that_missed_the_announcements_is_served_again"),
             ("lab/test_network.py::test_announcements_move_the_clients_neighbour_cache",)),
    HardCase(13, "What the lease does not cover",
             ("test_services::test_a_claim_knows_whether_what_the_other_gateway_ran_must_have_ended",
              "test_services::test_random_faults_with_hooks_that_hang")),
    HardCase(14, "The database's lease and the wall clock",
             ("test_simulator::test_no_effect_depends_on_the_wall_clock",
              "test_hard_cases::test_the_right_to_write_ends_before_the_address"),
             ("replication/test_guard.py::test_a_wall_clock_that_was_stepped_makes_no_lease_longer",)),
    HardCase(15, "Terms",
             ("test_faults::test_terms_only_grow_and_are_unique",
              "test_changes::test_a_higher_term_of_a_passive_is_not_yielded_to_by_an_agent_that_restarts",
              "test_hard_cases::test_a_crash_between_any_two_effects_of_a_claim_burns_its_term")),
    HardCase(16, "Clones",
             ("test_faults::test_no_claim_while_a_clone_is_heard_and_one_after_it",
              "test_faults::test_a_clone_keeps_a_hold_from_its_claim",
              "test_faults::test_an_active_gateway_goes_on_although_it_has_a_clone")),
    HardCase(17, "Agent restart, late loop, memory pressure",
             ("test_faults::test_killed_and_restarted_within_the_lease_goes_on_as_the_active",
              "test_faults::test_short_freeze_moves_nothing",
              "test_faults::test_frozen_agent_yields_when_thawed")),
    HardCase(18, "An address on a port without carrier answers elsewhere; a renewal is an event for all", (),
             ("lab/test_network.py::test_port_settings_are_made",
              "lab/test_network.py::test_who_renews_need_not_hear_himself")),
)  # fmt: skip
