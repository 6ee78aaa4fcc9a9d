//! The cases by name.

use crate::bench::Bench;
use crate::bench::Caller;
use crate::lives;
use crate::rows;
use crate::screens;

pub(crate) type Case = (&'static str, fn());

pub(crate) fn all() -> Vec<Case> {
    [of_terminals(), of_lives()].concat()
}

fn of_terminals() -> Vec<Case> {
    vec![
        (
            "an_interactive_program_has_a_terminal_of_its_own",
            screens::own_terminal,
        ),
        ("ctrl_c_interrupts_the_program_alone", screens::interrupt),
        (
            "ctrl_z_stops_the_job_and_fg_goes_on_with_it",
            screens::stop_and_go_on,
        ),
        (
            "a_job_that_is_brought_to_the_front_has_the_keys",
            screens::brought_to_the_front,
        ),
        ("a_shell_inside_has_job_control", screens::inner_jobs),
        ("a_full_screen_editor_works", screens::editor),
        ("the_window_size_follows", screens::window_size),
        ("a_closed_window_ends_the_session", screens::hang_up),
        (
            "a_pipeline_keeps_the_operator_s_terminal",
            screens::pipeline,
        ),
    ]
}

fn of_lives() -> Vec<Case> {
    vec![
        ("a_program_runs_at_the_repository_s_own_path", runs_in_place),
        (
            "a_killed_launcher_leaves_nothing_behind",
            lives::killed_launcher,
        ),
        (
            "the_session_ends_with_its_program",
            lives::session_ends_with_program,
        ),
        ("signals_pass_through", lives::forwarded_signals),
        (
            "a_hundred_launches_leave_nothing_behind",
            lives::hundred_launches,
        ),
        (
            "a_second_run_joins_the_mount_of_the_first",
            lives::second_run_joins,
        ),
        (
            "a_repository_under_a_private_directory_stands_alone",
            lives::repository_under_private_directories,
        ),
        (
            "a_repository_in_a_closed_directory_is_reached",
            lives::closed_ancestors,
        ),
        ("the_caller_s_directory_is_kept", lives::directory_kept),
        (
            "copies_stand_in_for_the_operator_s_own",
            lives::copies_and_binds,
        ),
        (
            "what_is_governed_is_never_writable",
            lives::governed_paths_are_never_writable,
        ),
        (
            "a_missing_device_is_named_with_its_fix",
            lives::missing_device,
        ),
        ("a_missing_program_is_named", lives::missing_program),
        ("a_mount_elsewhere_is_not_taken", lives::mount_elsewhere),
        ("lower_tiers_hold_what_they_say", lives::lower_tiers),
        ("every_layer_is_tried_for_real", lives::probing),
        ("real_programs_work", lives::real_programs),
        (
            "streams_can_be_opened_by_name_and_lead_nowhere_else",
            screens::streams,
        ),
        ("the_exit_status_passes_through", exit_status),
        ("what_is_hidden_is_absent", hidden),
        (
            "writes_outside_the_mount_and_the_writable_directories_are_refused",
            rows::writes_outside,
        ),
        ("writes_inside_them_work", rows::writes_inside),
        ("set_id_bits_and_devices_are_refused", rows::set_id_bits),
        ("other_processes_are_out_of_reach", rows::other_processes),
        (
            "no_other_view_of_the_file_system_can_be_made",
            rows::other_views,
        ),
        ("the_kernel_s_back_doors_are_closed", rows::kernel_surface),
        ("sockets_of_the_host_are_out_of_reach", rows::sockets),
        ("the_network_is_the_launch_s_choice", rows::network),
        (
            "shared_memory_of_the_host_is_out_of_reach",
            rows::shared_memory,
        ),
        ("no_privilege_is_left", rows::privileges),
        (
            "landlock_and_the_read_only_view_each_stop_writes",
            rows::layers_of_writing,
        ),
        ("hiding_is_what_hides", rows::layer_of_hiding),
        (
            "a_root_operator_s_agent_has_a_uid_of_its_own",
            rows::own_uid,
        ),
        ("inherited_descriptors_are_closed", rows::descriptors),
        (
            "nothing_can_be_typed_into_a_terminal",
            rows::terminal_typing,
        ),
    ]
}

pub(crate) fn each(case: impl Fn(&Bench)) {
    for caller in Caller::all() {
        case(&Bench::new(caller));
    }
}

fn runs_in_place() {
    each(|bench| {
        let script = "pwd; echo $PWD $OLDPWD $GOVFS; ls; echo more >> claimed.txt; cat claimed.txt; \
            if echo evil 2>/dev/null > other.txt; then echo WRITTEN; fi; command -v govfs";
        let repo = bench.text("repo");
        let said = bench.answer(&bench.shell(script));
        let wanted = format!(
            "{repo}\n{repo} {repo} 1\nclaimed.txt\nother.txt\nclaimed\nmore\n/run/govfs/bin/govfs\n"
        );
        assert_eq!(said, wanted, "{:?}", bench.caller);
    });
}

fn exit_status() {
    each(|bench| {
        for (script, wanted) in [
            ("exit 0", 0),
            ("exit 7", 7),
            ("kill -TERM $$", 128 + 15),
            ("kill -KILL $$", 128 + 9),
        ] {
            assert_eq!(
                bench.run(&bench.shell(script)).status.code(),
                Some(wanted),
                "{:?} {script}",
                bench.caller
            );
        }
    });
}

fn hidden() {
    each(|bench| {
        for path in [
            "home/.ssh/id",
            "home/.config/govfs/key",
            "store/ledger.db",
            "repo/real.txt",
        ] {
            assert!(
                !bench.attack(&["read", &bench.text(path)], |_| {}),
                "{:?} reads {path}",
                bench.caller
            );
        }
        for path in ["home/.ssh", "home/.config/govfs", "store"] {
            let exists = bench.attack(&["exists", &bench.text(path)], |_| {});
            assert!(!exists, "{:?}: {path} is there", bench.caller);
        }
        assert!(
            bench.attack(&["read", &bench.text("home/plain")], |_| {}),
            "{:?}: home is readable",
            bench.caller
        );
    });
}
