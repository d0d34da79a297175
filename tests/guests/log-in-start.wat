;; Logs before it has begun, when there is nothing yet to log with.
;; where: start
;; expect: uninitialized element
(func $begin (call $log (i32.const 2) (i32.const 24576) (i32.const 1)))
(start $begin)
