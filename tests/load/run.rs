//! What the commands do.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use serde_json::{Map, Value, json};

use crate::arguments::{Arguments, Command, Options};
use crate::client::View;
use crate::error::LoadError;
use crate::manager::{Program, check_program};
use crate::process::raise_file_limit;
use crate::report::{Figures, medians, ratios};
use crate::scenarios::{Bench, Scenario};

/// Runs the program.
#[expect(clippy::print_stderr, reason = "a command line program")]
pub(crate) fn main() -> ExitCode {
    let command = Arguments::parse().command;
    if matches!(command, Command::AppServer) {
        return crate::stub::serve();
    }
    raise_file_limit();
    match obey(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed to {error}");
            ExitCode::FAILURE
        }
    }
}

fn obey(command: Command) -> Result<(), LoadError> {
    match command {
        Command::Run { scenario, manager, options } => {
            let bench = bench(manager, &options)?;
            let runs = repeat(&[&bench], scenario, &options)?.remove(0);
            print(&report(scenario, &options, &runs), options.json);
        }
        Command::Compare { first, second, scenario, options } => {
            let benches = [bench(first, &options)?, bench(second, &options)?];
            let both = repeat(&[&benches[0], &benches[1]], scenario, &options)?;
            let (first, second) = (medians(&both[0]), medians(&both[1]));
            let ratios = ratios(&first, &second);
            let report = json!({
                "scenario": scenario.name(),
                "runs": options.runs,
                "first": first,
                "second": second,
                "ratios": ratios,
            });
            print(&report, options.json);
        }
        Command::All { manager, options } => {
            let bench = bench(manager, &options)?;
            let mut reports = Vec::new();
            for scenario in Scenario::value_variants() {
                let runs = repeat(&[&bench], *scenario, &options)?.remove(0);
                let report = report(*scenario, &options, &runs);
                if !options.json {
                    print(&report, false);
                }
                reports.push(report);
            }
            if options.json {
                print(&Value::Array(reports), true);
            }
        }
        // Answered before the others.
        Command::AppServer => {}
    }
    Ok(())
}

fn bench(manager: PathBuf, options: &Options) -> Result<Bench, LoadError> {
    let view = if options.single { View::Single } else { View::Default };
    let environment = options.environment.clone();
    Ok(Bench { program: Program { path: check_program(&manager)?, environment }, view })
}

/// Runs a scenario on each bench in turn, so that what the machine does meanwhile hits all alike.
#[expect(clippy::print_stderr, reason = "progress of a command line program")]
fn repeat(
    benches: &[&Bench],
    scenario: Scenario,
    options: &Options,
) -> Result<Vec<Vec<Figures>>, LoadError> {
    let mut runs = vec![Vec::new(); benches.len()];
    for number in 1..=options.runs {
        for (bench, runs) in benches.iter().zip(&mut runs) {
            let program = bench.program.path.display();
            eprintln!("{} {number} of {} on {program}", scenario.name(), options.runs);
            runs.push(scenario.run(bench, options.sizes(scenario))?);
        }
    }
    Ok(runs)
}

fn report(scenario: Scenario, options: &Options, runs: &[Figures]) -> Value {
    let all: Vec<Value> = runs.iter().map(Figures::to_json).collect();
    json!({
        "scenario": scenario.name(),
        "sizes": options.sizes(scenario).to_json(),
        "median": medians(runs),
        "runs": all,
    })
}

#[expect(clippy::print_stdout, reason = "a command line program")]
fn print(report: &Value, as_json: bool) {
    if as_json {
        return println!("{report:#}");
    }
    println!("{}", report["scenario"].as_str().unwrap_or_default());
    for part in ["median", "first", "second", "ratios"] {
        let Some(figures) = report[part].as_object() else { continue };
        if part != "median" {
            println!("  {part}");
        }
        print_figures(figures);
    }
}

#[expect(clippy::print_stdout, reason = "a command line program")]
fn print_figures(figures: &Map<String, Value>) {
    for (name, value) in figures {
        println!("  {name:<28} {value}");
    }
}
