#!/bin/bash
# A training on Slurm that queues itself again until it is done: always the same run.
#
#   sbatch examples/slurm.sh experiment.yaml --max_steps 20000
#
# docs/slurm.md says why each line is as it is.

#SBATCH --job-name=mmrun
#SBATCH --time=04:00:00
#SBATCH --requeue                  # a node that fails, or a preemption, queues the job again
#SBATCH --open-mode=append         # the log goes on, too
#SBATCH --output=%x-%j.log
#SBATCH --signal=USR1@180          # three minutes before the limit, to what srun started (no "B:")
##SBATCH --gres=gpu:1
##SBATCH --cpus-per-task=8

# source /path/to/the/environment/bin/activate

# Where runs are recorded. Without a server: sqlite:////path/of/a/file, on a disk that locks files.
# Compute nodes without a network: mmrun train --offline, and from the login node:
# mmrun sync OUTPUT_DIR.
# export MLFLOW_TRACKING_URI=http://login-node:5000

config=${1:?usage: sbatch slurm.sh EXPERIMENT_FILE [OPTION OF mmrun train ...]}
shift

# One folder for each job name, on a file system that every node sees. For a job array:
# output=outputs/$SLURM_JOB_NAME-$SLURM_ARRAY_TASK_ID
output=${OUTPUT_DIR:-outputs/$SLURM_JOB_NAME}

# Who cancels the job does not want it back; Slurm sends SIGTERM to this script then.
cancelled=
trap 'cancelled=yes' TERM

# Half of the time between the signal and the limit may go into sending; the rest is for the step
# that is under way, and for writing the checkpoint.
srun mmrun train --config_path "$config" --output_dir "$output" --grace_s 90 "$@"
code=$?

# 75: stopped on request, with a checkpoint. Everything else is an end: done, or an error to mend.
if [ "$code" -eq 75 ] && [ -z "$cancelled" ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
