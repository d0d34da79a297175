;; Answers with 40 columns that all are the same 60 MiB: little memory for the guest, a lot for the host.
;; expect: handed over more than the 64MiB of rule.guest.result
;; limit: memory 67108864
(func $on_null (param $row i32)
  (local $at i32)
  (drop (memory.grow (i32.const 960)))
  (local.set $at (global.get $column))
  (loop $next
    (call $pair (local.get $at) (global.get $kinds) (i32.const 0))
    (call $pair (i32.add (local.get $at) (i32.const 8)) (global.get $ends) (i32.const 0))
    (call $pair (i32.add (local.get $at) (i32.const 16)) (i32.const 65536) (i32.const 62914560))
    (local.set $at (i32.add (local.get $at) (i32.const 24)))
    (br_if $next (i32.lt_u (local.get $at) (i32.const 1024))))
  (call $pair (i32.const 8) (global.get $column) (i32.const 40)))
