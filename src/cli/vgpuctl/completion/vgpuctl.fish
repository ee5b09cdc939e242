# SPDX-License-Identifier: MIT
# fish completion of vgpuctl.
set -l commands status gpus pools pool vms vm drain reload events metrics top completion
set -l first "not __fish_seen_subcommand_from $commands"
set -l pool '__fish_seen_subcommand_from pool'
set -l pool_set "$pool; and __fish_seen_subcommand_from set"
set -l vm '__fish_seen_subcommand_from vm'
set -l vm_set "$vm; and __fish_seen_subcommand_from set"
set -l events '__fish_seen_subcommand_from events'

complete -c vgpuctl -f
complete -c vgpuctl -s h -l help -d 'Print help and exit'
complete -c vgpuctl -l version -d 'Print the version and exit'
complete -c vgpuctl -l socket -r -F -d 'The admin socket of the mediator'
complete -c vgpuctl -l json -d 'Print JSON instead of words'
complete -c vgpuctl -l timeout -x -d 'Longest wait for an answer, in seconds'

complete -c vgpuctl -n $first -a status -d 'Show the mediator at a glance'
complete -c vgpuctl -n $first -a gpus -d 'Show all GPUs'
complete -c vgpuctl -n $first -a pools -d 'Show all pools'
complete -c vgpuctl -n $first -a pool -d 'Show one pool, or change it'
complete -c vgpuctl -n $first -a vms -d 'Show all VMs that are configured or have been seen'
complete -c vgpuctl -n $first -a vm -d 'Show one VM, or change it'
complete -c vgpuctl -n $first -a drain -d 'Finish what is queued, then end the mediator'
complete -c vgpuctl -n $first -a reload -d 'Let it read its configuration file again'
complete -c vgpuctl -n $first -a events -d 'Follow the events until interrupted'
complete -c vgpuctl -n $first -a metrics -d 'Print the metrics, as Prometheus reads them'
complete -c vgpuctl -n $first -a top -d 'Watch who uses the GPUs'
complete -c vgpuctl -n $first -a completion -d 'Print a script that completes commands'

complete -c vgpuctl -n "$pool; and not __fish_seen_subcommand_from show set" -a 'show set'
complete -c vgpuctl -n $pool_set -l policy -x -a 'strict fair' -d 'Which request is next'
complete -c vgpuctl -n $pool_set -l aging-ms -x -d 'After this wait a request goes first; 0: never'

complete -c vgpuctl -n "$vm; and not __fish_seen_subcommand_from show set quarantine release" \
    -a 'show set quarantine release'
complete -c vgpuctl -n "$vm; and __fish_seen_subcommand_from quarantine" -l reason -x \
    -d 'For the log and the events'
complete -c vgpuctl -n $vm_set -l pool -x -d 'Pool to serve it in; none: as its device says'
complete -c vgpuctl -n $vm_set -l priority -x -a 'low medium high none' -d 'The same for its priority'
complete -c vgpuctl -n $vm_set -l weight -x -d 'Share under the fair policy, 0.001 to 1000'
complete -c vgpuctl -n $vm_set -l boost -x -a 'true false' -d 'Whether the flag BOOST has effect'
complete -c vgpuctl -n $vm_set -l queue-depth -x -d 'Requests that it may have queued'
complete -c vgpuctl -n $vm_set -l requests-per-second -x -d 'On average; 0: any number'
complete -c vgpuctl -n $vm_set -l burst -x -d 'Requests at once'
complete -c vgpuctl -n $vm_set -l gpu-time-ms-per-window -x -d 'GPU time in a window; 0: any'
complete -c vgpuctl -n $vm_set -l gpu-window-ms -x -d 'Length of the window'
complete -c vgpuctl -n $vm_set -l quarantine-after-faults -x -d '0: never'
complete -c vgpuctl -n $vm_set -l longest-execution-ms -x -d 'Longer ones are reported; 0: none'
complete -c vgpuctl -n $vm_set -l memory-bytes -x -d 'GPU memory that it may have allocated; 0: any'

complete -c vgpuctl -n $events -l vm -x -d 'Only events of this VM'
complete -c vgpuctl -n $events -l type -x -d 'Only these events' \
    -a '(__fish_append , request_accepted request_started request_finished request_refused \
        request_dropped request_overran session_opened session_identified session_closed \
        vm_quarantined vm_released notice queue_stopped memory_attached memory_refused)'
complete -c vgpuctl -n '__fish_seen_subcommand_from top' -l interval -x \
    -d 'Time between two pictures, in seconds'
complete -c vgpuctl -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'
