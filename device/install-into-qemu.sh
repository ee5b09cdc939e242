#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Installs the vgpu-stub device into a QEMU source tree (4.2 to 10.x), checks the installation, or reverts it.
#
# Everything is in hw/misc: the device's files, one marked section at the end of Kconfig, trace-events and the build file
# (meson.build or Makefile.objs), and a manifest with the checksums of what was written. The manifest distinguishes an
# older version of the device, which is replaced, from a local change, which is not.
#
# Invariants: nothing else in the tree changes; nothing is written before all checks have passed; files are replaced by
# rename, so that a hard-linked copy of the tree stays as it is; unchanged files keep their time stamps.
set -euo pipefail
unset CDPATH
export LC_ALL=C

usage() {
    cat <<'TEXT'
usage: install-into-qemu.sh [--force] DIR
       install-into-qemu.sh --check DIR
       install-into-qemu.sh --revert [--force] DIR

Installs the device vgpu-stub into the QEMU source tree DIR (QEMU 4.2 to 10.x), or updates it. Running it again changes
nothing.

  --check   changes nothing: exit status 0 if this version of the device is installed, else 1 and a line per difference
  --revert  removes the device: the tree is as before, to the byte
  --force   replaces or removes the device's files and sections even if they were changed locally
  --help    prints this text

exit status: 0: done; 1: refused or failed, or --check found a difference; 2: wrong usage, or DIR is not a QEMU tree
TEXT
}

say() {
    echo "install-into-qemu: $*" >&2
}

# die STATUS TEXT...
die() {
    local status=$1
    shift
    say "$@"
    exit "$status"
}

mode=install
force=
dir=
while [ $# -gt 0 ]; do
    case "$1" in
        --help | -h)
            usage
            exit 0
            ;;
        --check | --revert)
            [ "$mode" = install ] || [ "$mode" = "${1#--}" ] || die 2 "give --check or --revert, not both"
            mode=${1#--}
            ;;
        --force) force=yes ;;
        --)
            shift
            break
            ;;
        -*) die 2 "there is no option '$1'; --help lists them." ;;
        *) break ;;
    esac
    shift
done
if [ $# -ne 1 ] || [ -z "$1" ]; then
    usage >&2
    exit 2
fi
dir=$1
for tool in cmp grep head mktemp sha256sum tail; do
    command -v "$tool" > /dev/null || die 1 "the program $tool is missing."
done

# --- the device's sources -------------------------------------------------------------------------
here=$(cd -- "$(dirname -- "$0")" && pwd)
sources=("$here/qemu/vgpu-stub.c" "$here/qemu/vgpu-compat.h" "$here/qemu/vgpu-link.h" "$here/model/vgpu-hello.h"
    "$here/model/vgpu-regs.h" "$here/model/vgpu-wire.h" "$here/../protocol/vgpu_protocol.h")
for file in "${sources[@]}" "$here/qemu/Kconfig" "$here/qemu/trace-events"; do
    [ -f "$file" ] || die 1 "$file is missing: this script needs the folders device and protocol of a vgpu release."
done

# --- the tree -------------------------------------------------------------------------------------
[ -d "$dir" ] || die 2 "'$dir' is not a folder."
tree=$(cd -- "$dir" && pwd) || die 2 "'$dir' cannot be entered."
misc=$tree/hw/misc
for file in VERSION hw/misc/Kconfig hw/misc/trace-events; do
    [ -f "$tree/$file" ] || die 2 "'$dir' is not a QEMU source tree: it has no $file."
done
read -r version < "$tree/VERSION" || [ -n "${version:-}" ] || die 2 "'$dir' is not a QEMU source tree: VERSION is empty."
version=${version%$'\r'}
[[ "$version" =~ ^([0-9]{1,3})\.([0-9]{1,3})(\.[0-9]+)?$ ]] ||
    die 2 "'$dir' is not a QEMU source tree: VERSION does not hold a version number."
release=$((10#${BASH_REMATCH[1]} * 1000 + 10#${BASH_REMATCH[2]}))
[ "$release" -ge 4002 ] || die 2 "'$dir' is QEMU $version; the device needs QEMU 4.2 or later."
[ "$release" -lt 11000 ] || say "warning: the device is not known to compile in QEMU $version, only in 4.2 to 10.x."
[ ! -L "$misc" ] || die 1 "$misc is a symbolic link: name the tree that it points into."

if [ "$release" -ge 5002 ]; then
    build_file=meson.build
    # QEMU 8.1 renamed the source set of system emulators.
    set=softmmu_ss
    ! grep -q '^system_ss' "$misc/meson.build" 2> /dev/null || set=system_ss
    build_text="$set.add(when: 'CONFIG_VGPU_STUB', if_true: files('vgpu-stub.c'))"
else
    build_file=Makefile.objs
    build_text='common-obj-$(CONFIG_VGPU_STUB) += vgpu-stub.o'
fi
edited=(Kconfig "$build_file" trace-events)
[ -f "$misc/$build_file" ] || die 2 "'$dir' is not a QEMU source tree: it has no hw/misc/$build_file."

manifest=$misc/vgpu-stub.manifest
scratch=$(mktemp -d)
temporary=
clean_up() {
    rm -rf "$scratch"
    [ -z "$temporary" ] || rm -f "$temporary"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- sections -------------------------------------------------------------------------------------
# A file that does not end in a newline gets one before the section, which the begin mark records.
begin='# vgpu-stub begin'
begin_joined='# vgpu-stub begin, the line above ended without a newline'
end='# vgpu-stub end'

# line_of FILE MARK: prints the numbers of the lines that are MARK, with either line ending.
line_of() {
    grep -n -x -e "$2"$'\r\\{0,1\\}' "$1" | cut -d: -f1 || true
}

# find_section FILE: sets `first` and `last` to the section's lines (0: none) and `joined`; 1 if the marks do not match.
find_section() {
    local joined_lines begins ends
    begins=$(line_of "$1" "$begin")
    joined_lines=$(line_of "$1" "$begin_joined")
    ends=$(line_of "$1" "$end")
    joined=
    first=0
    last=0
    [ -n "$begins$joined_lines$ends" ] || return 0
    [ -z "$joined_lines" ] || joined=yes
    begins=$begins$joined_lines
    [[ "$begins" =~ ^[0-9]+$ && "$ends" =~ ^[0-9]+$ ]] && [ "$begins" -lt "$ends" ] || return 1
    first=$begins
    last=$ends
}

# section_text FILE: prints the text between the marks found, with the line endings of the project.
section_text() {
    head -n $((last - 1)) "$1" | tail -n +$((first + 1)) | tr -d '\r'
}

# without_section FILE: prints FILE as it was before the section was added.
without_section() {
    local keep=$((first - 1)) strip=0
    if [ "$first" -eq 0 ]; then
        cat "$1"
        return
    fi
    # Text that was added after the section keeps the newline before it.
    if [ -n "$joined" ] && [ -z "$(tail -n +$((last + 1)) "$1" | head -c 1 | tr '\0' x)" ]; then
        strip=1
        ! head -n "$first" "$1" | tail -n 1 | grep -q $'\r$' || strip=2
    fi
    head -n "$keep" "$1" | head -c -"$strip"
    tail -n +$((last + 1)) "$1"
}

# with_section FILE TEXT: prints FILE, which has no section, with one at its end.
with_section() {
    local eol='' mark=$begin
    ! head -n 1 "$1" | grep -q $'\r$' || eol=$'\r'
    cat "$1"
    if [ -s "$1" ] && [ "$(tail -c 1 "$1" | od -An -tx1 | tr -d ' ')" != 0a ]; then
        mark=$begin_joined
        printf '%s\n' "$eol"
    fi
    printf '%s\n%s\n%s\n' "$mark" "$2" "$end" | sed "s/\$/$eol/"
}

# --- what is installed ----------------------------------------------------------------------------
sum_of() {
    sha256sum < "$1" | cut -d' ' -f1
}

# recorded NAME SUM: whether the manifest has it.
recorded() {
    [ -f "$manifest" ] && grep -q -x -F -e "$2  $1" "$manifest"
}

# text_for FILE: prints the section that FILE gets.
text_for() {
    case "$1" in
        "$build_file") echo "$build_text" ;;
        *) cat "$here/qemu/$1" ;;
    esac
}

problems=0
problem() {
    problems=$((problems + 1))
    say "$*"
}

# Names under which files were installed: now, and by the version that wrote the manifest.
names=()
for file in "${sources[@]}"; do
    names+=("${file##*/}")
done
current=" ${names[*]} "
if [ -f "$manifest" ]; then
    while read -r _ name; do
        case "$current ${names[*]} " in
            *" $name "*) ;;
            *)
                # Only plain names of the device's own files: the manifest is not trusted to name others.
                [[ ! "$name" =~ ^vgpu[-_][a-z0-9_-]*\.[ch]$ ]] || names+=("$name")
                ;;
        esac
    done < "$manifest"
fi

# find_source NAME: sets `source` to the file that is installed under this name; empty: none.
find_source() {
    local file
    source=
    for file in "${sources[@]}"; do
        [ "${file##*/}" != "$1" ] || source=$file
    done
}

check() {
    local name source
    for name in "${names[@]}"; do
        find_source "$name"
        if [ -z "$source" ]; then
            [ ! -e "$misc/$name" ] || problem "hw/misc/$name is of another version of the device."
        elif [ ! -e "$misc/$name" ] && [ ! -L "$misc/$name" ]; then
            problem "hw/misc/$name is missing."
        elif [ ! -f "$misc/$name" ] || [ -L "$misc/$name" ]; then
            problem "hw/misc/$name is not a regular file."
        elif ! cmp -s "$source" "$misc/$name"; then
            if recorded "$name" "$(sum_of "$misc/$name")"; then
                problem "hw/misc/$name is of another version of the device."
            else
                problem "hw/misc/$name differs: it was changed locally."
            fi
        fi
    done
    for name in "${edited[@]}"; do
        if ! find_section "$misc/$name"; then
            problem "hw/misc/$name: the marks '$begin' and '$end' do not match."
        elif [ "$first" -eq 0 ]; then
            problem "hw/misc/$name has no section of vgpu-stub."
        elif [ "$(section_text "$misc/$name")" != "$(text_for "$name")" ]; then
            problem "hw/misc/$name: the section of vgpu-stub differs."
        fi
    done
    if [ "$problems" -gt 0 ]; then
        say "the device is not installed in $tree (QEMU $version), or not in this version."
        exit 1
    fi
    echo "vgpu-stub is installed in $tree (QEMU $version), in this version"
}

# Counts everything that is in the way of replacing or removing the device.
look_for_obstacles() {
    local name text sum source
    for name in "${names[@]}"; do
        find_source "$name"
        if [ -L "$misc/$name" ] || { [ -e "$misc/$name" ] && [ ! -f "$misc/$name" ]; }; then
            problem "hw/misc/$name is not a regular file: move it away."
        elif [ -f "$misc/$name" ] && [ -z "$force" ] && ! cmp -s "$source" "$misc/$name" &&
            ! recorded "$name" "$(sum_of "$misc/$name")"; then
            problem "hw/misc/$name is not a file that this script wrote, or was changed since: save your changes," \
                "then use --force."
        fi
    done
    for name in "${edited[@]}"; do
        if [ -L "$misc/$name" ]; then
            problem "hw/misc/$name is a symbolic link: replace it with the file."
            continue
        fi
        if ! find_section "$misc/$name"; then
            problem "hw/misc/$name: the marks '$begin' and '$end' do not match: repair them by hand."
            continue
        fi
        if [ "$mode" = install ] && [ "$(without_section "$misc/$name" | grep -c -i 'vgpu[-_]stub')" -ne 0 ]; then
            problem "hw/misc/$name mentions vgpu-stub outside of the marked section: remove these lines."
        fi
        if [ "$first" -eq 0 ] || [ -n "$force" ]; then
            continue
        fi
        text=$(section_text "$misc/$name")
        sum=$(echo "$text" | sha256sum | cut -d' ' -f1)
        if [ "$text" != "$(text_for "$name")" ] && ! recorded "section:$name" "$sum"; then
            problem "hw/misc/$name: the section of vgpu-stub was changed locally: save your changes, then use --force."
        fi
    done
    if [ -L "$manifest" ] || { [ -e "$manifest" ] && [ ! -f "$manifest" ]; }; then
        problem "hw/misc/${manifest##*/} is not a regular file: move it away."
    fi
    [ -w "$misc" ] || problem "$misc is not writable."
    if [ "$problems" -gt 0 ]; then
        die 1 "nothing was changed in $tree."
    fi
}

# --- writing --------------------------------------------------------------------------------------
# replace FILE NEW: FILE gets NEW's content and keeps its mode and owner.
replace() {
    ! cmp -s "$1" "$2" || return 0
    temporary=$(mktemp "$misc/.vgpu-stub.XXXXXX") || die 1 "cannot write to $misc."
    cat "$2" > "$temporary"
    if [ -e "$1" ]; then
        chmod --reference="$1" "$temporary"
        # Changing the owner needs root; the file then belongs to the caller.
        chown --reference="$1" "$temporary" 2> /dev/null || true
    else
        chmod 644 "$temporary"
    fi
    mv -f -- "$temporary" "$1"
    temporary=
}

# new_manifest: prints the checksums of what this version installs.
new_manifest() {
    local name
    # sha256sum begins the line of a path with a backslash with one.
    sha256sum -- "${sources[@]}" | sed 's|^\\||; s|  .*/|  |'
    for name in "${edited[@]}"; do
        echo "$(text_for "$name" | sha256sum | cut -d' ' -f1)  section:$name"
    done
}

install_device() {
    local name source
    # While files are replaced the manifest has both versions: an interrupted run can be repeated.
    new_manifest > "$scratch/manifest"
    {
        [ ! -f "$manifest" ] || cat "$manifest"
        cat "$scratch/manifest"
    } | sort -u > "$scratch/both"
    sort -u "$scratch/manifest" -o "$scratch/manifest"
    replace "$manifest" "$scratch/both"
    for name in "${names[@]}"; do
        find_source "$name"
        if [ -n "$source" ]; then
            replace "$misc/$name" "$source"
        else
            rm -f -- "$misc/$name"
        fi
    done
    for name in "${edited[@]}"; do
        find_section "$misc/$name"
        # A section that is current stays where it is, also if lines were added after it.
        if [ "$first" -ne 0 ] && [ "$(section_text "$misc/$name")" = "$(text_for "$name")" ]; then
            continue
        fi
        without_section "$misc/$name" > "$scratch/without"
        with_section "$scratch/without" "$(text_for "$name")" > "$scratch/with"
        replace "$misc/$name" "$scratch/with"
    done
    replace "$manifest" "$scratch/manifest"
    echo "vgpu-stub is installed in $tree (QEMU $version)"
}

revert_device() {
    local name
    for name in "${edited[@]}"; do
        find_section "$misc/$name"
        without_section "$misc/$name" > "$scratch/without"
        replace "$misc/$name" "$scratch/without"
    done
    for name in "${names[@]}"; do
        rm -f -- "$misc/$name"
    done
    # Last: an interrupted run can be repeated.
    rm -f -- "$manifest"
    echo "vgpu-stub is removed from $tree (QEMU $version)"
}

case "$mode" in
    check) check ;;
    install)
        look_for_obstacles
        install_device
        ;;
    revert)
        look_for_obstacles
        revert_device
        ;;
esac
