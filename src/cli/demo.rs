//! `wsnapd demo`.

use crate::app::{Demo, DemoOptions, Signals, init_logging, runtime};
use crate::config::Protocol;

use super::args::DemoArgs;
use super::failure::Failure;
use super::output::{say, tell};
use super::tour;

pub(super) fn demo(args: DemoArgs) -> Result<(), Failure> {
    init_logging(&args.log);
    runtime()?.block_on(Box::pin(run(args)))
}

async fn run(args: DemoArgs) -> Result<(), Failure> {
    let options = DemoOptions {
        data_dir: args.data_dir,
        http: args.http,
        https: args.https,
        user: args.user,
        password_file: args.password_file,
        strict: args.strict,
        qemu: !args.no_qemu,
    };
    let demo = Demo::start(options).await?;
    say(format_args!(
        "HTTP      {}{}",
        demo.url(Protocol::Http),
        if args.strict { " (sealed messages only)" } else { "" }
    ));
    say(format_args!("HTTPS     {}", demo.url(Protocol::Https)));
    say(format_args!("User      {}", demo.user));
    if demo.password_made {
        say(format_args!("Password  {} (in {})", demo.password.as_str(), demo.password_file.display()));
    } else {
        say(format_args!("Password  in {}", demo.password_file.display()));
    }
    say(format_args!("CA        {}", demo.running.certificate().display()));
    say(format_args!("Data      {}", demo.data_dir.display()));
    for machine in &demo.started {
        say(format_args!("Running   {}, it counts in {}", machine.name, demo.serial_of(machine).display()));
    }
    for problem in &demo.not_started {
        tell(format_args!("{problem}"));
    }
    let mut signals = Signals::listen()?;
    if let Some(file) = &args.ready_file {
        demo.write_ready_file(file)?;
    }
    if !args.no_tour {
        tokio::select! {
            guided = tour::guide(&demo) => {
                if let Err(failure) = guided {
                    // The tour shows; what it shows can still be tried by hand.
                    tell(format_args!("The tour ended early: {failure}"));
                }
            }
            () = signals.told_to_stop() => {}
        }
    }
    say("Serving until Ctrl-C.");
    demo.run_until_signal(signals).await?;
    Ok(())
}
