# SPDX-License-Identifier: MIT
# bash completion of vgpuctl.
_vgpuctl() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' word words='' common='--help --json --socket --timeout --version'
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case "$command $word" in
            ' status' | ' gpus' | ' pools' | ' pool' | ' pool show' | ' pool set' | ' vms' | ' vm' | \
                ' vm show' | ' vm set' | ' vm quarantine' | ' vm release' | ' drain' | ' reload' | \
                ' events' | ' metrics' | ' top' | ' completion') command+=" $word" ;;
        esac
    done
    case "$command $prev" in
        *' --socket')
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        ' pool set --policy') words='strict fair' ;;
        ' vm set --priority') words='low medium high none' ;;
        ' vm set --boost') words='true false' ;;
        ' events --type')
            words='request_accepted request_started request_finished request_refused request_dropped
                request_overran session_opened session_identified session_closed vm_quarantined
                vm_released notice queue_stopped memory_attached memory_refused'
            ;;
        # Options with other values; --json has none.
        *' --timeout' | ' vm set --'[!j]* | ' vm quarantine --reason' | ' pool set --aging-ms' | \
            ' events --vm' | ' top --interval') ;;
        *)
            case "$command" in
                '') words='status gpus pools pool vms vm drain reload events metrics top completion' ;;
                ' pool') words='show set' ;;
                ' pool set') words='--policy --aging-ms' ;;
                ' vm') words='show set quarantine release' ;;
                ' vm set')
                    words='--pool --priority --weight --boost --queue-depth --requests-per-second --burst
                        --gpu-time-ms-per-window --gpu-window-ms --quarantine-after-faults
                        --longest-execution-ms --memory-bytes'
                    ;;
                ' vm quarantine') words='--reason' ;;
                ' events') words='--vm --type' ;;
                ' top') words='--interval' ;;
                ' completion') words='bash zsh fish' ;;
            esac
            words+=" $common"
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _vgpuctl vgpuctl
