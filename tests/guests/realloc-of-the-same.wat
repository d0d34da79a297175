;; Hands out the same place each time, also where its outcome and its constants are.
;; expect: 
;; culprits: any
(global $configured (mut i32) (i32.const 0))
(func $on_configure (global.set $configured (i32.const 1)))
(func $on_realloc (param $address i32) (param $size i32) (result i32)
  (if (global.get $configured) (then (return (i32.const 0))))
  (local.get $address))
