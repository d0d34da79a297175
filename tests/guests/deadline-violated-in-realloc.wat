;; Never hands out memory once it is configured.
;; expect: ran longer than the 100ms of rule.guest.deadline
;; culprits: all
;; rows: 1
;; limit: deadline 100ms
(global $configured (mut i32) (i32.const 0))
(func $on_configure (global.set $configured (i32.const 1)))
(func $on_realloc (param $address i32) (param $size i32) (result i32)
  (loop $ever (br_if $ever (global.get $configured)))
  (local.get $address))
