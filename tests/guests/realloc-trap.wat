;; Traps when the host wants memory.
;; expect: unreachable
;; culprits: all
;; rows: 1 null
(global $configured (mut i32) (i32.const 0))
(func $on_configure (global.set $configured (i32.const 1)))
(func $on_realloc (param $address i32) (param $size i32) (result i32)
  (if (global.get $configured) (then (unreachable)))
  (local.get $address))
