# System calls that a container may make if nobody says otherwise: those of the
# default profile of moby (github.com/moby/profiles, seccomp/default.json, as of
# 02e898b, 2026, after Docker 29.4 has taken AF_ALG out), with the capabilities
# that containers have by default. clone, clone3, personality and socket depend
# on arguments: see sandbox.c. What only 32-bit programs call is left out. Words
# that libseccomp does not know, or the machine does not have, are passed over.

# files
open openat openat2 creat close close_range dup dup2 dup3 fcntl flock ioctl
read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek
sendfile copy_file_range splice tee vmsplice readahead fadvise64 fallocate
truncate ftruncate fsync fdatasync sync syncfs sync_file_range
stat fstat lstat newfstatat statx statfs fstatfs statmount listmount
access faccessat faccessat2 umask
chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat
utime utimes futimesat utimensat
link linkat symlink symlinkat readlink readlinkat unlink unlinkat
rename renameat renameat2 mkdir mkdirat rmdir mknod mknodat
getdents getdents64 getcwd chdir fchdir chroot name_to_handle_at cachestat
getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat
listxattr llistxattr flistxattr listxattrat
removexattr lremovexattr fremovexattr removexattrat
inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark

# waiting, and what to wait for
poll ppoll select pselect6
epoll_create epoll_create1 epoll_ctl epoll_ctl_old
epoll_wait epoll_wait_old epoll_pwait epoll_pwait2
eventfd eventfd2 signalfd signalfd4 pipe pipe2 memfd_create memfd_secret
timerfd_create timerfd_settime timerfd_gettime
io_setup io_submit io_getevents io_pgetevents io_cancel io_destroy

# sockets
socketpair bind listen accept accept4 connect shutdown
getsockname getpeername getsockopt setsockopt
sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg

# memory
brk mmap munmap mremap mprotect madvise msync mincore remap_file_pages
mlock mlock2 mlockall munlock munlockall membarrier mseal map_shadow_stack
pkey_alloc pkey_free pkey_mprotect

# processes and threads
fork vfork execve execveat exit exit_group wait4 waitid
getpid getppid gettid getpgid getpgrp setpgid getsid setsid
kill tkill tgkill pidfd_open pidfd_send_signal process_mrelease
process_vm_readv process_vm_writev ptrace prctl seccomp uretprobe
landlock_create_ruleset landlock_add_rule landlock_restrict_self
set_tid_address set_robust_list get_robust_list rseq
set_thread_area get_thread_area arch_prctl modify_ldt
futex futex_wait futex_wake futex_waitv futex_requeue
sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr
sched_getparam sched_setparam sched_getscheduler sched_setscheduler
sched_get_priority_min sched_get_priority_max sched_rr_get_interval
getpriority setpriority ioprio_get ioprio_set getcpu
getrlimit setrlimit prlimit64 getrusage times sysinfo uname getrandom

# users
getuid geteuid getgid getegid getgroups getresuid getresgid capget capset
setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups

# signals and time
rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend rt_sigtimedwait
rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn sigaltstack pause
restart_syscall alarm getitimer setitimer nanosleep clock_nanosleep
time gettimeofday clock_gettime clock_getres clock_adjtime adjtimex
timer_create timer_settime timer_gettime timer_getoverrun timer_delete

# between processes
shmget shmat shmdt shmctl semget semop semtimedop semctl
msgget msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive
mq_notify mq_getsetattr

# one machine's own
riscv_hwprobe riscv_flush_icache
s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr
