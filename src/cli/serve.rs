//! `wsnapd serve`.

use crate::app::{AppError, Running, Signals, enter_environment, init_logging, keep_memory_private, runtime};
use crate::config::Config;

use super::args::ServeArgs;
use super::failure::Failure;

pub(super) fn serve(args: &ServeArgs) -> Result<(), Failure> {
    let config = Config::load(&args.file.config).map_err(AppError::Config)?;
    enter_environment(&config)?;
    keep_memory_private()?;
    init_logging(args.log.as_deref().unwrap_or(&config.log_filter));
    let runtime = runtime()?;
    runtime.block_on(async {
        // Big on the stack of a task, small on the heap.
        let running = Box::pin(Running::start(&config)).await?;
        running.run_until_signal(Signals::listen()?).await
    })?;
    Ok(())
}
